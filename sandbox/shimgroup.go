// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killShimGroup kills what is left of the process group of a shim that has
// died: the runtime dies with its parent, but the hooks that it was running do
// not. Containers are in sessions of their own and loggers in groups of their
// own. It does nothing while the shim lives, or where another process leads a
// group of that number by now; without a leader the number cannot be given
// away as long as the group has members.
func killShimGroup(shim int) error {
	if shim <= 1 {
		return nil
	}
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(shim))); err == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && processGroup(pid) == shim {
			errs = append(errs, killMember(pid, shim))
		}
	}
	return errors.Join(errs...)
}

// killMember kills a process if it is still in the group once its pidfd is
// open.
func killMember(pid, group int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pidfd of process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if processGroup(pid) != group {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d of the dead shim: %w", pid, err)
	}
	return nil
}

// processGroup reads field 5 of a stat file (proc_pid_stat(5)); 0 if there is
// no such process.
func processGroup(pid int) int {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // fields[0] is field 3
	if len(fields) < 3 {
		return 0
	}
	group, _ := strconv.Atoi(fields[2])
	return group
}
