// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/test/fakedriver"
)

// mark has the cache tell that it was used.
const mark = `{"cuda":"12.8"}`

func cacheFile(d *fakedriver.Driver, r Roots) string {
	return r.Run + "/gpu/driver-" + d.Version + ".json"
}

// marked is a machine whose cache holds the mark.
func marked(t testing.TB) (*fakedriver.Driver, Roots, *Inventory) {
	t.Helper()
	d, r := machine(t, fakedriver.Config{Compat32: true})
	inv := discover(t, r)
	if err := load(t, r, inv).StoreNVML(json.RawMessage(mark)); err != nil {
		t.Fatal(err)
	}
	if !isMarked(t, r, inv) {
		t.Fatal("the cache is not used")
	}
	return d, r, inv
}

func isMarked(t testing.TB, r Roots, inv *Inventory) bool {
	return string(load(t, r, inv).NVML) == mark
}

func TestCacheHoldsAll(t *testing.T) {
	d, r := machine(t, fakedriver.Config{Compat32: true, NVSwitch: true})
	inv := discover(t, r)
	searched, kept := load(t, r, inv), load(t, r, inv)
	if !reflect.DeepEqual(searched, kept) {
		t.Errorf("searched %+v\nkept %+v", searched, kept)
	}
	if len(kept.Files) < 60 || len(kept.Links) < 40 {
		t.Errorf("%d files, %d links", len(kept.Files), len(kept.Links))
	}
	file, err := os.Lstat(cacheFile(d, r))
	if err != nil || file.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", file, err)
	}
	dir, err := os.Lstat(filepath.Dir(cacheFile(d, r)))
	if err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", dir, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(cacheFile(d, r))); len(entries) != 1 {
		t.Errorf("beside the cache there is more: %v", entries)
	}
}

// TestCacheIsStale changes one thing that the list depends on. Times are set
// apart by hand: a clock of the kernel may tick every 4 ms alone.
func TestCacheIsStale(t *testing.T) {
	touch := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Chtimes(path, time.Time{}, time.Unix(1_000_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, d *fakedriver.Driver, r *Roots)
	}{
		{"another boot", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			write(t, d.Proc+"/sys/kernel/random/boot_id", "00000000-0000-0000-0000-000000000000\n")
		}},
		{"the loader's cache written anew", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			name := d.Root + "/etc/ld.so.cache"
			b, err := os.ReadFile(name)
			if err := errors.Join(err, os.WriteFile(name+"~", b, 0o644), os.Rename(name+"~", name)); err != nil {
				t.Fatal(err)
			}
		}},
		{"the loader's cache gone", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			if err := os.Remove(d.Root + "/etc/ld.so.cache"); err != nil {
				t.Fatal(err)
			}
		}},
		{"a library directory", func(t *testing.T, d *fakedriver.Driver, r *Roots) { touch(t, d.Root+d.LibDir) }},
		{"the directory of programs", func(t *testing.T, d *fakedriver.Driver, r *Roots) { touch(t, d.Root+"/usr/bin") }},
		{"the firmware's directory", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			touch(t, d.Root+"/usr/lib/firmware/nvidia/"+d.Version)
		}},
		{"a directory that was not there: firmware", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			write(t, d.Root+"/lib/firmware/updates/nvidia/"+d.Version+"/gsp_new.bin", "")
		}},
		{"a directory that was not there: configuration", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			write(t, d.Root+"/etc/OpenCL/vendors/nvidia.icd", "")
		}},
		{"a directory that was not there: libraries", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			write(t, d.Root+"/usr/local/nvidia/lib64/libnvidia-new.so."+d.Version, "")
		}},
		{"a directory that was not there: programs", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			write(t, d.Root+"/usr/local/sbin/nvidia-smi", "")
		}},
		{"another driver root", func(t *testing.T, d *fakedriver.Driver, r *Roots) { r.Driver += "/." }},
		{"another driver", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			b, err := os.ReadFile(cacheFile(d, *r))
			if err != nil {
				t.Fatal(err)
			}
			write(t, cacheFile(d, *r), strings.Replace(string(b), " "+d.Version+" ", " 1.2.3 ", 1))
		}},
		{"another schema", func(t *testing.T, d *fakedriver.Driver, r *Roots) {
			b, err := os.ReadFile(cacheFile(d, *r))
			if err != nil {
				t.Fatal(err)
			}
			write(t, cacheFile(d, *r), strings.Replace(string(b), fmt.Sprintf(`{"Key":"%d `, cacheSchema), `{"Key":"0 `, 1))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, r, inv := marked(t)
			tt.change(t, d, &r)
			if isMarked(t, r, inv) {
				t.Error("the stale cache was used")
			}
			if f := load(t, r, inv); f.file(Library, "libcuda.so."+d.Version).Host == "" {
				t.Error("the new one lacks libcuda")
			}
		})
	}
}

func TestCacheIsNotTrusted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(file string) error
	}{
		{"torn", func(file string) error { return os.Truncate(file, 200) }},
		{"empty", func(file string) error { return os.Truncate(file, 0) }},
		{"huge", func(file string) error {
			b, err := os.ReadFile(file)
			return errors.Join(err, os.WriteFile(file, append(b, strings.Repeat(" ", 2<<20)...), 0o600))
		}},
		{"another owner's", func(file string) error { return os.Chown(file, 65534, 65534) }},
		{"writable by all", func(file string) error { return os.Chmod(file, 0o602) }},
		{"writable by a group", func(file string) error { return os.Chmod(file, 0o620) }},
		{"a symlink", func(file string) error {
			return errors.Join(os.Rename(file, file+"~"), os.Symlink(file+"~", file))
		}},
		{"a directory", func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) }},
		{"in a directory of all", func(file string) error { return os.Chmod(filepath.Dir(file), 0o777) }},
		{"in another's directory", func(file string) error { return os.Chown(filepath.Dir(file), 65534, 65534) }},
		{"in a symlinked directory", func(file string) error {
			dir := filepath.Dir(file)
			return errors.Join(os.Rename(dir, dir+"~"), os.Symlink(dir+"~", dir))
		}},
		{"with a line cut off", func(file string) error {
			b, err := os.ReadFile(file)
			return errors.Join(err, os.WriteFile(file, []byte(strings.Replace(string(b), "|libcuda.so.1|", "|", 1)), 0o600))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, r, inv := marked(t)
			if err := tt.change(cacheFile(d, r)); err != nil {
				t.Fatal(err)
			}
			if isMarked(t, r, inv) {
				t.Error("it was used")
			}
		})
	}
}

func TestCacheCannotBeWritten(t *testing.T) {
	_, r := machine(t, fakedriver.Config{})
	r.Run = filepath.Join(t.TempDir(), "file")
	write(t, r.Run, "no directory")
	inv := discover(t, r)
	f := load(t, r, inv)
	if len(f.Files) == 0 {
		t.Error("no files")
	}
	if err := f.StoreNVML(json.RawMessage(mark)); err == nil {
		t.Error("what NVML said is not kept, and nobody is told")
	}
}

func FuzzCache(f *testing.F) {
	_, r, inv := marked(f)
	file := r.Run + "/gpu/driver-" + inv.DriverVersion + ".json"
	b, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"Key":"","Files":["|||||"],"Links":["a|300|b|c"]}`))
	var got cached
	if err := json.Unmarshal(b, &got); err != nil {
		f.Fatal(err)
	}
	cache := fileCache{file: filepath.Join(f.TempDir(), "fuzzed"), key: got.Key}
	if err := os.Chmod(filepath.Dir(cache.file), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(cache.file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if f := cache.load(inv.DriverVersion); f != nil && f.Version != inv.DriverVersion {
			t.Errorf("loaded %+v", f)
		}
	})
}
