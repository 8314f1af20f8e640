// SPDX-License-Identifier: Apache-2.0

// Package shelter keeps the machine from tests of a guard that is gone, and from
// what tests leave that do not come to their end.
//
// Who breaks the line that keeps paths below a root, to see a test fail, as he
// should, has its tests write where those paths lead: as root, into the /etc of
// the machine. Sheltered tests run in a mount namespace in which they cannot. What
// they mount themselves goes with that, also if they are killed.
//
// Tests that panic, as they do when their time is over, and those that a signal
// ends run none of their clean-up. The process that they are children of has it
// instead: the directory in which all their temporary ones are, and the cgroups
// that have the name berth-WHAT-PID or begin with that and a dash, PID being the
// tests' own (os.Getpid). In tests that pass, what it finds is a failure.
//
// What does not belong here: what a process has while it runs (see test/leak).
package shelter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of the process that runs the tests.
const inside = "BERTH_TEST_SHELTER"

// Main calls run in a process of its own, for which /etc and /usr are read-only,
// removes what it leaves, and returns the exit code. Without root nothing has to be
// kept. It is called from TestMain.
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

// again runs this program again, in a mount namespace and with a directory for
// temporary files, and removes what it leaves.
func again() (code int) {
	dir, err := temporary()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1", "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// The standard library makes all mounts of the new namespace private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = runTold(cmd)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		code = exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "run the tests in a mount namespace:", err)
		code = 1
	}
	left, err := cleanUp(cmd, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clean up after the tests:", err)
		code = max(code, 1)
	}
	if len(left) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "the tests left behind:\n  %s\n", strings.Join(left, "\n  "))
		code = 1
	}
	return code
}

// runTold runs a command, which is told the signals that are to end this process:
// both end, and the command first.
func runTold(cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if !signal.Ignored(s) { // as it is for who has been started by nohup, which the tests inherit
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return err
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have got it too, or have ended
		}
	}
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
