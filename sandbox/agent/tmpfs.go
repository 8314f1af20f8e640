// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// makeTmpfs makes those that a container is the first to have, and binds what it
// gets of one to where it has it.
func (s *server) makeTmpfs(c *container, all []*agentapi.Tmpfs) error {
	s.tmpfs.Lock()
	defer s.tmpfs.Unlock()
	for _, t := range all {
		if s.cfg.TmpfsDir == "" || !validID(t.Name) {
			return fmt.Errorf("a file system in memory of the name %q: %w", t.Name, errdefs.ErrInvalidArgument)
		}
		dir := filepath.Join(s.cfg.TmpfsDir, t.Name)
		if !s.tmpfsMade[t.Name] {
			if err := mountTmpfs(dir, t); err != nil {
				return fmt.Errorf("make %s: %w", dir, err)
			}
			if s.tmpfsMade == nil {
				s.tmpfsMade = make(map[string]bool)
			}
			s.tmpfsMade[t.Name] = true
		}
		if err := s.bindBelow(c, dir, t); err != nil {
			return fmt.Errorf("bind what is in %s: %w", dir, err)
		}
	}
	return nil
}

// mountTmpfs mounts one. No more fits in than seven eighths of the memory that there is:
// what is in it, unlike a process, cannot be killed when there is none left. What
// other volumes will have is not known.
func mountTmpfs(dir string, t *agentapi.Tmpfs) error {
	available, err := memoryAvailable()
	if err != nil {
		return err
	}
	size := available - available/8
	if t.Size > 0 { // of the host's, 0 is that it has no limit; the kernel reads size=0 so, too
		size = min(size, t.Size)
	}
	size = max(size, uint64(os.Getpagesize()))
	flags := uintptr(0)
	for _, o := range t.Options {
		f, ok := mountFlags[o]
		if !ok {
			return fmt.Errorf("the option %q: %w", o, errdefs.ErrInvalidArgument)
		}
		flags |= f
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	options := fmt.Sprintf("mode=%o,uid=%d,gid=%d,size=%d", t.Mode&0o7777, t.Uid, t.Gid, size)
	return unix.Mount("tmpfs", dir, "tmpfs", flags, options)
}

// memoryAvailable is what can be used without anything being killed, in bytes.
func memoryAvailable() (uint64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib uint64
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("/proc/meminfo does not say what is available: %w", errdefs.ErrNotFound)
}

// bindBelow has a container get a part of one. The containers of the pod write there:
// a link that one of them has made leads nowhere else.
func (s *server) bindBelow(c *container, dir string, t *agentapi.Tmpfs) error {
	if len(t.Directories) == 0 {
		return nil
	}
	if err := s.isForMounts(t.Target); err != nil {
		return err
	}
	last := t.Directories[len(t.Directories)-1].Name
	fd, err := openBelow(dir, last)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDirectories(dir, t.Directories); err == nil {
			fd, err = openBelow(dir, last)
		}
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.MkdirAll(t.Target, 0o711)
	} else if err = os.MkdirAll(filepath.Dir(t.Target), 0o711); err == nil {
		err = os.WriteFile(t.Target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	c.mounts = append(c.mounts, t.Target)
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), t.Target, "", unix.MS_BIND, "")
}

// openBelow opens a file or a directory to be bound.
func openBelow(dir, name string) (int, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.EXDEV) {
		err = fmt.Errorf("a link at %q leads out of it: %w", name, errdefs.ErrFailedPrecondition)
	}
	return fd, err
}
