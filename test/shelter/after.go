// SPDX-License-Identifier: Apache-2.0

package shelter

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// temporary makes the directory of the tests' temporary files. Its name is short:
// sockets are in there. Who a test becomes passes through it.
func temporary() (string, error) {
	dir, err := os.MkdirTemp("", "bt")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		return "", fmt.Errorf("make a directory for the tests: %w", err)
	}
	return dir, nil
}

// cleanUp removes what tests that have ended left, and says what that was.
func cleanUp(cmd *exec.Cmd, dir string) (left []string, _ error) {
	var errs []error
	if cmd.Process != nil {
		var err error
		left, err = removeCgroups(cmd.Process.Pid)
		errs = append(errs, err)
	}
	files, err := os.ReadDir(dir)
	for _, f := range files {
		left = append(left, filepath.Join(dir, f.Name()))
	}
	// What the tests have mounted there is not seen from here.
	return left, errors.Join(append(errs, err, os.RemoveAll(dir))...)
}

// removeCgroups ends whoever is in the cgroups of a process's tests, and removes them.
func removeCgroups(pid int) (left []string, _ error) {
	var errs []error
	for _, parent := range parents() {
		for _, pattern := range []string{"berth-*-%d", "berth-*-%d-*"} {
			found, err := filepath.Glob(filepath.Join(parent, fmt.Sprintf(pattern, pid)))
			errs = append(errs, err)
			for _, dir := range found {
				left = append(left, dir)
				errs = append(errs, removeCgroup(dir))
			}
		}
	}
	return left, errors.Join(errs...)
}

// parents are the directories in which tests make cgroups: in each hierarchy the
// root, what containers without a path are in (/berth), and the tests' own.
func parents() []string {
	paths := []string{"/", "/berth"}
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 && !slices.Contains(paths, fields[2]) {
			paths = append(paths, fields[2])
		}
	}
	var dirs []string
	for _, path := range paths {
		dirs = append(dirs, filepath.Join("/sys/fs/cgroup", path), filepath.Join("/sys/fs/cgroup/*", path)) // v2, v1
	}
	return dirs
}

func removeCgroup(top string) error {
	var errs []error
	var dirs []string
	walk := func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
			errs = append(errs, endAll(path))
		}
		return nil // by another name of the hierarchy it is no more
	}
	errs = append(errs, filepath.WalkDir(top, walk))
	slices.Reverse(dirs)
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// endAll kills whoever is in a cgroup, and waits until they are dead.
func endAll(dir string) error {
	// What is frozen does not die (v1).
	_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
	procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for _, field := range bytes.Fields(procs) {
		pid, err := strconv.Atoi(string(field))
		if err != nil || pid <= 0 {
			continue // not in this PID namespace
		}
		if err := end(pid); err != nil {
			return fmt.Errorf("kill %d in %s: %w", pid, dir, err)
		}
	}
	return nil
}

// patience is for the end of a process that was killed.
const patience = 10 * time.Second

func end(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	gone := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(gone, int(patience.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = errors.New("it does not die")
		}
		return err
	}
}
