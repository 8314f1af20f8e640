// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cacheSchema changes with the form or the meaning of a cache's file.
const cacheSchema = 1

// cacheLimit bounds what is read of a cache. A driver's takes about 25 KiB.
const cacheLimit = 1 << 20

// fileCache is the file that holds a driver's files until something that they
// were found by has changed. It holds no device numbers: these change while it
// stays.
type fileCache struct {
	file string
	key  cacheKey
}

// cacheKey is what the list of files depends on.
type cacheKey struct {
	Schema  int    `json:"schema"`
	BootID  string `json:"boot_id"`
	Version string `json:"driver_version"`
	Root    string `json:"driver_root"`
	// Stamps are of the loader's cache and of all directories that were
	// searched, as they were before.
	Stamps []stamp `json:"stamps"`
}

// stamp tells whether a file or directory has changed. That of one which does
// not exist is all zero.
type stamp struct {
	Path  string `json:"path"`
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // in nanoseconds
	Ctime int64  `json:"ctime"`
}

func stampOf(path string) stamp {
	s := stamp{Path: path}
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		s.Dev, s.Ino, s.Size, s.Mtime, s.Ctime = st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()
	}
	return s
}

// cached is the form of the file.
type cached struct {
	Key   cacheKey `json:"key"`
	Files *Files   `json:"files"`
}

// LoadFiles lists the files of the driver that is loaded, from a cache that
// lasts until the next boot or until a directory that they come from changes.
// Without libraries of the module's version the error is
// errdefs.ErrFailedPrecondition if there are others, and errdefs.ErrNotFound
// if there are none.
func LoadFiles(r Roots, inv *Inventory) (*Files, error) {
	boot, _ := readProc(r.proc("sys/kernel/random/boot_id"))
	c := fileCache{
		file: r.run("driver-" + inv.DriverVersion + ".json"),
		key:  cacheKey{Schema: cacheSchema, BootID: strings.TrimSpace(string(boot)), Version: inv.DriverVersion, Root: r.Driver},
	}
	if f := c.load(); f != nil {
		return f, nil
	}
	f, stamps, err := scanFiles(r, inv.DriverVersion)
	if err != nil {
		return nil, err
	}
	c.key.Stamps = stamps
	f.cache = c
	_ = c.store(f) // the next one searches again: slower, not wrong
	return f, nil
}

// StoreNVML keeps what NVML says of the driver, which holds as long as the
// files do. A later LoadFiles has it in Files.NVML.
func (f *Files) StoreNVML(raw json.RawMessage) error {
	f.NVML = raw
	if err := f.cache.store(f); err != nil {
		return fmt.Errorf("keep what NVML said: %w", err)
	}
	return nil
}

// load is nil where there is no cache, or none to be trusted or still true.
func (c fileCache) load() *Files {
	b := readOwn(c.file)
	if b == nil {
		return nil
	}
	var got cached
	if json.Unmarshal(b, &got) != nil || got.Files == nil {
		return nil
	}
	want := c.key
	for _, s := range got.Key.Stamps {
		want.Stamps = append(want.Stamps, stampOf(s.Path))
	}
	if got.Key.BootID == "" || len(want.Stamps) == 0 || !got.Key.equal(want) {
		return nil
	}
	got.Files.cache = fileCache{file: c.file, key: got.Key}
	return got.Files
}

func (k cacheKey) equal(o cacheKey) bool {
	return k.Schema == o.Schema && k.BootID == o.BootID && k.Version == o.Version && k.Root == o.Root && slices.Equal(k.Stamps, o.Stamps)
}

// readOwn reads a file that nobody but us can have written: what it names is
// mounted into containers.
func readOwn(path string) []byte {
	var dir, file unix.Stat_t
	if unix.Lstat(filepath.Dir(path), &dir) != nil || !own(dir, unix.S_IFDIR) {
		return nil
	}
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if unix.Fstat(int(f.Fd()), &file) != nil || !own(file, unix.S_IFREG) || file.Size > cacheLimit {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, cacheLimit))
	if err != nil {
		return nil
	}
	return b
}

func own(st unix.Stat_t, kind uint32) bool {
	return st.Mode&unix.S_IFMT == kind && st.Uid == uint32(os.Geteuid()) && st.Mode&0o022 == 0
}

// store replaces the file as a whole: who reads it sees the old or the new.
func (c fileCache) store(f *Files) (err error) {
	b, err := json.Marshal(cached{Key: c.key, Files: f})
	if err != nil {
		return err
	}
	dir := filepath.Dir(c.file)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".driver-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), c.file)
}
