// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/gpu/loader"
)

// cacheSchema changes with the form or the meaning of a cache's file.
const cacheSchema = 1

// cacheLimit bounds what is read of a cache. A driver's takes about 20 KiB.
const cacheLimit = 1 << 20

// fileCache is the file that holds a driver's files until something that they
// were found by has changed. It holds no device numbers: these change while it
// stays.
type fileCache struct {
	file, key string
	stamps    []stamp
}

// stamp tells whether a file or directory has changed. That of one which does
// not exist is zero but for the path.
type stamp struct {
	Path     string
	Dev, Ino uint64
	Size     int64
	Changed  [2]int64 // mtime and ctime, in nanoseconds
}

func stampOf(path string) stamp {
	s := stamp{Path: path}
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		s.Dev, s.Ino, s.Size, s.Changed = st.Dev, st.Ino, st.Size, [2]int64{st.Mtim.Nano(), st.Ctim.Nano()}
	}
	return s
}

// cached is the form of the file. A hundred strings take a third of the time
// that as many objects take to decode, and this is done for each container.
type cached struct {
	Key          string // schema, boot, driver version and root
	Stamps       []stamp
	Files, Links []string
	NVML         json.RawMessage `json:",omitempty"`
}

// LoadFiles lists the files of the driver that is loaded, from a cache that
// lasts until the next boot or until the loader's cache or a directory that
// was searched changes. Without libraries of the module's version the error is
// errdefs.ErrFailedPrecondition if there are others, and errdefs.ErrNotFound
// if there are none.
func LoadFiles(r Roots, inv *Inventory) (*Files, error) {
	boot, err := readProc(r.proc("sys/kernel/random/boot_id"))
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	c := fileCache{
		file: r.run("driver-" + inv.DriverVersion + ".json"),
		key:  fmt.Sprintf("%d %s %s %s", cacheSchema, bytes.TrimSpace(boot), inv.DriverVersion, r.Driver),
	}
	if f := c.load(inv.DriverVersion); f != nil {
		return f, nil
	}
	f, stamps, err := scanFiles(r, inv.DriverVersion)
	if err != nil {
		return nil, err
	}
	c.stamps = stamps
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
func (c fileCache) load(version string) *Files {
	var got cached
	if json.Unmarshal(readOwn(c.file), &got) != nil || got.Key != c.key {
		return nil
	}
	for _, s := range got.Stamps {
		if s != stampOf(s.Path) {
			return nil
		}
	}
	c.stamps = got.Stamps
	f := &Files{Version: version, NVML: got.NVML, cache: c}
	for _, line := range got.Files {
		p, c, ok := unpack(line, 6)
		if !ok {
			return nil
		}
		abi, _ := strconv.ParseUint(p[4], 10, 32)
		f.Files = append(f.Files, File{Kind: Kind(p[0]), Capability: c, Path: p[2], Soname: p[3], ABI: loader.ABI(abi), Host: p[5]})
	}
	for _, line := range got.Links {
		p, c, ok := unpack(line, 4)
		if !ok {
			return nil
		}
		f.Links = append(f.Links, Link{Kind: Kind(p[0]), Capability: c, Path: p[2], Target: p[3]})
	}
	return f
}

// store replaces the file as a whole: who reads it sees the old or the new.
func (c fileCache) store(f *Files) (err error) {
	out := cached{Key: c.key, Stamps: c.stamps, NVML: f.NVML}
	for _, l := range f.Files {
		out.Files = append(out.Files, pack(l.Kind, l.Capability, l.Path, l.Soname, strconv.Itoa(int(l.ABI)), l.Host))
	}
	for _, l := range f.Links {
		out.Links = append(out.Links, pack(l.Kind, l.Capability, l.Path, l.Target))
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return writeOwn(c.file, b)
}

// separator is in no path of a driver; one that has it would be read back as
// too many parts, and make the cache useless, not wrong.
const separator = "|"

func pack(k Kind, c Capability, parts ...string) string {
	return strings.Join(append([]string{string(k), strconv.Itoa(int(c))}, parts...), separator)
}

func unpack(line string, parts int) ([]string, Capability, bool) {
	p := strings.Split(line, separator)
	if len(p) != parts {
		return nil, 0, false
	}
	c, err := strconv.ParseUint(p[1], 10, 8)
	return p, Capability(c), err == nil
}

// writeOwn replaces a file of which readOwn reads, in one step.
func writeOwn(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
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
	b := make([]byte, file.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil
	}
	return b
}

func own(st unix.Stat_t, kind uint32) bool {
	return st.Mode&unix.S_IFMT == kind && st.Uid == uint32(os.Geteuid()) && st.Mode&0o022 == 0
}
