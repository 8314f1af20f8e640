// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Cgroup is one open control group, in all hierarchies that the host has.
// Its methods are safe for concurrent use.
type Cgroup struct {
	view   view
	mounts []mount // of the caller, kept to tell quickly where it is now
	loc    Location
	dirs   map[string]int // O_PATH descriptors by controller, owned
	fds    []int          // descriptors of the stats files by file id, owned; -1 absent
	huge   []hugePages

	partitions int // /proc/partitions, to name block devices; v1 only, or -1
	parent     int // v2: memory.events of the parent (pod) cgroup, or -1

	users    users
	scratch  sync.Pool // *scratch
	counters atomic.Pointer[counters]
	opened   uint64 // OOM kills when the cgroup was opened
}

// Open opens the cgroup that process pid is in. The process must be alive and
// not a zombie: an exited one is shown in the root cgroup. Errors are
// errdefs.ErrNotFound when there is no such process or no cgroup mount.
func Open(pid int) (*Cgroup, error) { return view{}.open(pid) }

// Load opens the cgroup that an earlier process described with Location. It
// returns errdefs.ErrNotFound when none of the directories exists any more (or
// others have taken their names): nothing is left to kill or remove.
func Load(loc Location) (*Cgroup, error) {
	mounts, err := view{}.known()
	if err != nil {
		return nil, err
	}
	return view{}.load(loc, mounts)
}

func (v view) open(pid int) (*Cgroup, error) {
	mounts, err := v.known()
	if err != nil {
		return nil, err
	}
	loc, err := v.locate(strconv.Itoa(pid), mounts)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("open cgroup of process %d: %w", pid, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	self, err := v.locate("self", mounts)
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	for controller, dir := range loc.Dirs {
		if own, ok := self.Dirs[controller]; ok && encloses(dir.Path, own.Path) {
			dir.Shared = true
			loc.Dirs[controller] = dir
		}
	}
	return v.load(loc, mounts)
}

func (v view) load(loc Location, mounts []mount) (_ *Cgroup, retErr error) {
	if loc.Version != V1 && loc.Version != V2 && loc.Version != Hybrid {
		return nil, fmt.Errorf("load cgroup: version %q is not v1, v2 or hybrid: %w", loc.Version, errdefs.ErrInvalidArgument)
	}
	c := &Cgroup{
		view:       v,
		mounts:     mounts,
		loc:        Location{Version: loc.Version, Dirs: map[string]Dir{}},
		dirs:       map[string]int{},
		partitions: -1,
		parent:     -1,
	}
	defer func() {
		if retErr != nil {
			c.closeAll()
		}
	}()
	for controller, dir := range loc.Dirs {
		fd, inode, err := v.openDir(dir)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open cgroup directory %q: %w", dir.Path, err)
		}
		dir.Inode = inode
		c.dirs[controller] = fd
		c.loc.Dirs[controller] = dir
	}
	if len(c.dirs) == 0 {
		return nil, fmt.Errorf("cgroup is gone: %w", errdefs.ErrNotFound)
	}
	c.openFiles()
	c.Snapshot()
	c.opened = c.lastCounters().oomKill
	return c, nil
}

// openDir opens one directory and checks that it is the recorded one. A record
// comes from a file: what it names must be a cgroup before anything is killed
// or removed in it.
func (v view) openDir(dir Dir) (fd int, inode uint64, err error) {
	if !filepath.IsAbs(dir.Path) || filepath.Clean(dir.Path) != dir.Path {
		return -1, 0, fmt.Errorf("path is not absolute and clean: %w", errdefs.ErrInvalidArgument)
	}
	fd, err = unix.Open(filepath.Join(v.root, dir.Path), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	err = errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fs))
	switch {
	case err != nil:
	case dir.Inode != 0 && dir.Inode != st.Ino:
		err = unix.ENOENT // another cgroup of the same name
	case v.root == "" && fs.Type != unix.CGROUP_SUPER_MAGIC && fs.Type != unix.CGROUP2_SUPER_MAGIC:
		err = fmt.Errorf("not in a cgroup file system: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, st.Ino, nil
}

// Location is the record from which a later process can Load the cgroup.
func (c *Cgroup) Location() Location {
	return Location{Version: c.loc.Version, Dirs: maps.Clone(c.loc.Dirs)}
}

// Close releases the descriptors once the calls that are under way have
// returned; it does not wait for them. An OOMWatch has its own Close.
func (c *Cgroup) Close() error {
	if c.users.close() {
		c.closeAll()
	}
	return nil
}

// acquire pins the descriptors until release; false after Close.
func (c *Cgroup) acquire() bool { return c.users.acquire() }

func (c *Cgroup) release() {
	if c.users.release() {
		c.closeAll()
	}
}

func (c *Cgroup) closeAll() {
	for _, fd := range c.dirs {
		unix.Close(fd)
	}
	for _, fd := range c.fds {
		closeFD(fd)
	}
	for _, h := range c.huge {
		closeFD(h.usage)
		closeFD(h.max)
		closeFD(h.failcnt)
	}
	closeFD(c.partitions)
	closeFD(c.parent)
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// errClosed is the answer of methods called after Close.
func errClosed(what string) error {
	return fmt.Errorf("%s: cgroup is closed: %w", what, errdefs.ErrNotFound)
}

// users counts the calls that use the descriptors, so that Close needs no lock
// held across their system calls. The top bit says that Close was called.
type users struct{ n atomic.Int64 }

const usersClosed = int64(1) << 62

func (u *users) acquire() bool {
	for {
		n := u.n.Load()
		if n&usersClosed != 0 {
			return false
		}
		if u.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release reports whether the caller was the last user after close.
func (u *users) release() bool { return u.n.Add(-1) == usersClosed }

// close reports whether nobody uses the descriptors.
func (u *users) close() bool {
	for {
		n := u.n.Load()
		if n&usersClosed != 0 {
			return false
		}
		if u.n.CompareAndSwap(n, n|usersClosed) {
			return n == 0
		}
	}
}
