// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The init of a PID namespace that was killed waits as long as nobody reaps another
// process in it: it is ending, and not done.
func TestEnding(t *testing.T) {
	sup := NewSupervisor()
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
	if err := init.Process.Release(); err != nil {
		t.Error(err)
	}
	other := exec.Command("/bin/sleep", "1000")
	if err := startBeside(other, p.Pid()); err != nil {
		t.Fatal(err)
	}
	if p.Ending() {
		t.Error("it is ending while it runs")
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(time.Minute); !p.Ending() && time.Now().Before(end); {
		runtime.Gosched()
	}
	select {
	case <-p.Done():
		t.Error("it has exited before the other was reaped")
	default:
		if !p.Ending() {
			t.Error("it is not ending")
		}
	}
	_ = other.Wait() // killed by the kernel
	<-p.Done()
	if !p.Ending() {
		t.Error("it is not ending though it has exited")
	}
}

// startBeside starts a process in another's PID namespace, as a child of this one.
func startBeside(cmd *exec.Cmd, pid int) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID)
			_ = ns.Close()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}
