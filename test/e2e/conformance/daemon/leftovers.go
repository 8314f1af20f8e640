// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where this host mounts its cgroup hierarchies.
const cgroupRoot = "/sys/fs/cgroup"

// Leftovers is what of a run exists at one moment.
type Leftovers struct {
	Processes []int    // those with the daemon's directory or name in their command line, and those in its cgroups
	Mounts    []string // mount points below the directory, in mount order
	Cgroups   []string // below the daemon's parent cgroup
	Sockets   []string // in the shims' socket directory
}

// Empty reports that nothing is left.
func (l Leftovers) Empty() bool {
	return len(l.Processes)+len(l.Mounts)+len(l.Cgroups)+len(l.Sockets) == 0
}

// String names everything that is left, with the command of each process.
func (l Leftovers) String() string {
	var b strings.Builder
	for _, pid := range l.Processes {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		fmt.Fprintf(&b, "process %d: %s\n", pid, bytes.ReplaceAll(comm, []byte{0}, []byte{' '}))
	}
	for _, list := range []struct {
		kind  string
		names []string
	}{{"mount", l.Mounts}, {"cgroup", l.Cgroups}, {"socket", l.Sockets}} {
		for _, name := range list.names {
			fmt.Fprintf(&b, "%s: %s\n", list.kind, name)
		}
	}
	return b.String()
}

// Leftovers looks at the host.
func (d *Daemon) Leftovers() (Leftovers, error) {
	var left Leftovers
	pids, perr := Processes(d.Dir+"/", d.Name)
	mounts, merr := Mounts(d.Dir + "/")
	cgroups, members, cerr := Cgroups(d.Name)
	// Not the parent itself: runtimes make it and do not remove it.
	cgroups = slices.DeleteFunc(cgroups, func(path string) bool { return filepath.Base(path) == d.Name })
	seen := map[int]bool{}
	for _, pid := range append(pids, members...) {
		if !seen[pid] {
			seen[pid] = true
			left.Processes = append(left.Processes, pid)
		}
	}
	left.Mounts, left.Cgroups = mounts, cgroups
	sockets, serr := os.ReadDir(filepath.Join(d.Dir, "s"))
	for _, socket := range sockets {
		left.Sockets = append(left.Sockets, socket.Name())
	}
	return left, errors.Join(perr, merr, cerr, serr)
}

// Processes returns the processes, but for this one and its parent, with any of
// the words in their command line or in what their root directory is mounted
// from. A zombie has neither.
func Processes(words ...string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() || pid == os.Getppid() {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil {
			continue // it has just gone
		}
		text := string(cmdline) + rootMount(pid)
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) }) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// rootMount returns the line of a process's mount table for its root directory,
// which names the source and, for an overlay, the layers.
func rootMount(pid int) string {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/" {
			return line
		}
	}
	return ""
}

// Mounts returns the mount points below a path, in mount order.
func Mounts(prefix string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var mounts []string
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], prefix) {
			mounts = append(mounts, fields[4])
		}
	}
	return mounts, nil
}

// Cgroups returns the cgroups that the pattern matches below the root of any
// hierarchy, and those below them, deepest first, and the processes in them.
func Cgroups(pattern string) (cgroups []string, members []int, err error) {
	roots, err := filepath.Glob(filepath.Join(cgroupRoot, "*", pattern)) // v1
	if err != nil {
		return nil, nil, err
	}
	v2, _ := filepath.Glob(filepath.Join(cgroupRoot, pattern))
	for _, root := range append(roots, v2...) {
		walk := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !entry.IsDir() {
				return err
			}
			cgroups = append([]string{path}, cgroups...)
			procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			if err != nil {
				return nil // it has just gone
			}
			for _, field := range bytes.Fields(procs) {
				if pid, err := strconv.Atoi(string(field)); err == nil {
					members = append(members, pid)
				}
			}
			return nil
		})
		err = errors.Join(err, walk)
	}
	return cgroups, members, err
}

func removeCgroups(parent string) error {
	cgroups, _, err := Cgroups(parent)
	errs := []error{err}
	for _, path := range cgroups {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// AwaitGone waits until a process is dead that was killed, or told to end.
func AwaitGone(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch %d: %w", pid, err)
	}
	defer unix.Close(fd)
	const patienceMS = 10_000 // a killed process that is not in an uninterruptible sleep dies in far less
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patienceMS)
	if err == nil && n == 0 {
		return fmt.Errorf("process %d has not ended %d s after it was killed, or told to end", pid, patienceMS/1000)
	}
	return err
}
