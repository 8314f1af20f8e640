// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
)

// An exec that fails while the init is still at its end says so too: its namespaces go
// first, and what ends with it may be many processes.
func TestExecBesideAnEndingInit(t *testing.T) {
	sup := process.NewSupervisor()
	defer sup.Close()
	hold := sup.Hold()
	init := exec.Command("/bin/sleep", "1000")
	init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := init.Start(); err != nil {
		hold.Release()
		t.Skipf("no PID namespace can be made: %v", err)
	}
	p, err := hold.Adopt(init.Process.Pid)
	hold.Release()
	if err != nil {
		t.Fatal(err)
	}
	_ = init.Process.Release()
	reap := holdUp(t, p)
	c := &Container{req: &CreateRequest{ID: "a"}, init: proc{os: p}}
	missed := errors.New("no such namespace")
	if err := c.blameExit(missed); err != missed {
		t.Errorf("beside an init that runs: %v", err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	gone := fmt.Sprintf("/proc/%d/ns/ipc", p.Pid())
	for _, err = os.Stat(gone); err == nil; _, err = os.Stat(gone) {
		runtime.Gosched()
	}
	select {
	case <-p.Done():
		t.Error("the init is not held up")
	default:
	}
	if err := c.blameExit(missed); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "has exited") || !errors.Is(err, missed) {
		t.Errorf("beside an init at its end: %v", err)
	}
	reap()
	<-p.Done()
}

// holdUp starts a process in an init's PID namespace that nobody reaps but the function
// that is returned: the init does not end before.
func holdUp(t *testing.T, init *process.Process) (reap func()) {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", init.Pid()))
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID), ns.Close())
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return func() { _ = cmd.Wait() }
}
