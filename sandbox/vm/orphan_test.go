// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/vm/image"
)

// ownMachine boots a machine with a share, says which processes it has, and
// waits to be killed.
func ownMachine(share string) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	img, err := image.Open(os.Getenv("BERTH_TEST_GUEST"))
	if err != nil {
		panic(err)
	}
	m, err := Boot(context.Background(), Config{
		ID: "orphan", Supervisor: process.NewSupervisor(), Image: img, Accel: []Accel{TCG}, MemoryMiB: 160, CPUs: 1,
		QEMU: qemu, Virtiofsd: virtiofsd, Launcher: []string{self, launcher}, UID: tester, GID: tester, Share: share,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Pid(), m.share.Pid())
	select {}
}

// Nothing of a machine outlives its owner, even one that is killed before the
// guest's agent could notice: QEMU itself goes on when its sockets
// are closed, and a change of credentials clears the death signal.
func TestOwnerIsKilled(t *testing.T) {
	r := newRig(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, owner, shared(t))
	cmd.Env = append(os.Environ(), "BERTH_TEST_GUEST="+filepath.Dir(r.image.Kernel))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pids := strings.Fields(line)
	held := make([]unix.PollFd, 0, len(pids))
	for _, p := range pids {
		var pid int
		if _, err := fmt.Sscan(p, &pid); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { // nothing is left if the test fails either
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			_ = unix.Close(fd)
		}()
		held = append(held, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	begin := time.Now()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || len(held) != 2 {
		t.Fatalf("the owner says %q (%v), want QEMU and virtiofsd", line, err)
	}
	for i := range held {
		deadline, _ := r.ctx.Deadline()
		if n, err := unix.Poll(held[i:i+1], int(time.Until(deadline).Milliseconds())); n != 1 {
			t.Errorf("process %s outlives its owner (%v)", pids[i], err)
		}
	}
	t.Logf("all are gone %v after the kill", time.Since(begin))
}
