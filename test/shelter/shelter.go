// SPDX-License-Identifier: Apache-2.0

// Package shelter keeps the machine from tests of a guard that is gone.
//
// Who breaks the line that keeps paths below a root, to see a test fail, as he
// should, has its tests write where those paths lead: as root, into the /etc of
// the machine. Sheltered tests run in a mount namespace in which they cannot. What
// they mount themselves goes with that, also if they are killed.
//
// What does not belong here: what else a test may leave behind (see test/leak).
package shelter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of the process that runs the tests.
const inside = "BERTH_TEST_SHELTER"

// Main calls run in a process of its own, for which /etc and /usr are read-only,
// and returns the exit code. Without root nothing has to be kept. It is called from
// TestMain.
func Main(run func() int) int {
	if os.Geteuid() != 0 {
		return run()
	}
	if os.Getenv(inside) == "" {
		return again()
	}
	for _, dir := range []string{"/etc", "/usr"} {
		if err := readOnly(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return run()
}

// again runs this program again, in a mount namespace.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// The standard library makes all mounts of the new namespace private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests in a mount namespace:", err)
		return 1
	}
	return 0
}

func readOnly(dir string) error {
	err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, "")
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	if err != nil {
		return fmt.Errorf("make %s read-only for the tests: %w", dir, err)
	}
	return nil
}
