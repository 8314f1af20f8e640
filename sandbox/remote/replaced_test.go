// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// victim is a directory of the host's with a mount in it of the name that a
// container's first volume has, and a file of that of its second.
func victim(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "victim")
	point := filepath.Join(dir, "0")
	if err := errors.Join(os.MkdirAll(point, 0o755), os.WriteFile(filepath.Join(dir, "1"), []byte("kept"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("victim", point, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_DETACH) })
	return dir
}

// unharmed checks that a victim has what it had.
func unharmed(t *testing.T, dir string) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(dir, "0"), &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Errorf("the victim's mount has gone: type %#x, %v", st.Type, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "1")); string(got) != "kept" {
		t.Errorf("the victim's file: %q, %v", got, err)
	}
}

// replacements put something in the place of a name, as nobody but root can: the
// guest cannot, which TestMachineConfines shows. That is the first wall, and
// these are tests of the second.
var replacements = map[string]struct {
	put  func(name, target string) error
	says error // what openat2(2) says of it
}{
	"a link": {func(name, target string) error { return os.Symlink(target, name) }, unix.ELOOP},
	"a mount of a directory": {func(name, target string) error {
		return errors.Join(os.Mkdir(name, 0o755), unix.Mount(target, name, "", unix.MS_BIND, ""))
	}, unix.EXDEV},
}

// What the host unmounts and removes is the share's own, whatever is in the place
// of a container's directory (CVE-2020-2024).
func TestFolderIsReplaced(t *testing.T) {
	for name, replaced := range replacements {
		t.Run(name, func(t *testing.T) {
			s, host := openShare(t)
			dir, target := filepath.Join(s.mounts(), "c"), victim(t)
			if err := s.add("c", []bind{{name: "0", source: filepath.Join(host, "dir")}}, nil); err != nil {
				t.Fatal(err)
			}
			aside := filepath.Join(s.mounts(), "aside")
			if err := errors.Join(os.Rename(dir, aside), replaced.put(dir, target)); err != nil {
				t.Fatal(err)
			}
			if err := s.remove("c"); !errors.Is(err, replaced.says) {
				t.Errorf("%v, want %v", err, replaced.says)
			}
			unharmed(t, target)
			if err := errors.Join(detach(dir), os.Remove(dir), os.Rename(aside, dir), s.remove("c")); err != nil {
				t.Errorf("once it was put back: %v", err)
			}
		})
	}
}

// A link in the place of a mount point is removed, not followed; what is mounted
// on it is unmounted, and what that is of stays (CVE-2020-2024).
func TestPointIsReplaced(t *testing.T) {
	for name, replaced := range replacements {
		t.Run(name, func(t *testing.T) {
			s, host := openShare(t)
			target := victim(t)
			if err := s.add("c", []bind{{name: "0", source: filepath.Join(host, "dir")}, {name: "1", source: filepath.Join(host, "file")}}, nil); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"0", "1"} {
				point := filepath.Join(s.mounts(), "c", name)
				if err := errors.Join(detach(point), os.Remove(point), replaced.put(point, filepath.Join(target, "0"))); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.remove("c"); err != nil {
				t.Error(err)
			}
			unharmed(t, target)
			if _, err := os.Stat(filepath.Join(s.mounts(), "c")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the container's directory is left: %v", err)
			}
		})
	}
}

// What is mounted comes into the container's directory, and nowhere that a link in
// the place of a mount point leads to (CVE-2020-2025, CVE-2020-2026).
func TestPointIsThereAlready(t *testing.T) {
	s, host := openShare(t)
	target := victim(t)
	if err := os.Mkdir(filepath.Join(s.mounts(), "c"), 0o711); err != nil {
		t.Fatal(err)
	}
	f, err := s.folder("c")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for name, leads := range map[string]string{"0": "0", "1": "1", "2": "new"} {
		if err := os.Symlink(filepath.Join(target, leads), filepath.Join(s.mounts(), "c", name)); err != nil {
			t.Fatal(err)
		}
		for _, source := range []string{"dir", "file"} {
			if err := (bind{name: name, source: filepath.Join(host, source)}).mount(f, nil, hostMounts); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s over a link to %s: %v", source, leads, err)
			}
		}
	}
	// By the directory's other name, too, it is the same directory.
	elsewhere := filepath.Join(s.mounts(), "elsewhere")
	if err := errors.Join(os.Rename(filepath.Join(s.mounts(), "c"), elsewhere), os.Symlink(target, filepath.Join(s.mounts(), "c"))); err != nil {
		t.Fatal(err)
	}
	if err := (bind{name: "3", source: filepath.Join(host, "dir")}).mount(f, nil, hostMounts); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(elsewhere, "3/inner")); string(got) != "three" {
		t.Errorf("it was not mounted where the directory is: %v", err)
	}
	unharmed(t, target)
	if entries, err := os.ReadDir(target); len(entries) != 2 {
		t.Errorf("the victim has %v, %v", entries, err)
	}
	if err := errors.Join(os.Remove(filepath.Join(s.mounts(), "c")), s.remove("elsewhere")); err != nil {
		t.Error(err)
	}
}

// A share is not opened, and so not served, where a link leads elsewhere.
func TestShareIsReplaced(t *testing.T) {
	needRoot(t)
	target := victim(t)
	for _, name := range []string{"mounts", "served"} {
		s := share{filepath.Join(t.TempDir(), "share")}
		if err := errors.Join(os.Mkdir(s.dir, 0o711), os.Symlink(target, filepath.Join(s.dir, name))); err != nil {
			t.Fatal(err)
		}
		if err := s.open(); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s is a link: %v", name, err)
		}
		unharmed(t, target)
	}
}
