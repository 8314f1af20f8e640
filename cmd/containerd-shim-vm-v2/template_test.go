// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/process"
	"berth/sandbox/runtimetest"
	"berth/sandbox/template"
	"berth/sandbox/vm"
	"berth/sandbox/vm/image"
)

// What runs in a clone passes the test of all runtimes as well.
func TestClonedMachine(t *testing.T) {
	needGuest(t)
	cloned := conf
	cloned.Template, cloned.TemplateIdle = configs.CopiedTemplate, 60
	keeper(t, cloned)
	before := given(t, cloned)
	runtimetest.Run(t, newHost(cloned))
	runtimetest.RunDisks(t, newHost(cloned))
	if after := given(t, cloned); after == before {
		t.Errorf("no machine was made of the template: %d were before, %d are after", before, after)
	}
}

// keeper starts one as a shim does, and waits for its first template.
func keeper(t *testing.T, conf configs.VM) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(conf.Image)
	if err != nil {
		t.Fatal(err)
	}
	c := vm.Config{
		Image: img, MemoryMiB: conf.Class(conf.MemoryMiB), CPUs: conf.CPUs, QEMU: conf.QEMU, Launcher: []string{self, launchArg},
	}
	accel, err := accelerator(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	c.Accel = []vm.Accel{accel}
	q, err := template.For(t.Context(), c, conf.Template == configs.SharedTemplate)
	if err != nil {
		t.Fatal(err)
	}
	q.UIDBase, q.Idle, q.Wait = conf.UIDBase, conf.TemplateIdle, true
	q.Cgroup = fmt.Sprintf("/berth-vm-%d/templates", os.Getpid()) // of no other program's keepers
	dir := template.Dir(conf.RunDir)
	sup := process.NewSupervisor()
	defer sup.Close()
	p, err := template.Start(sup, []string{self, detachArg, dir}, nil, q)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := template.End(ctx, dir); err != nil && !errors.Is(err, template.ErrNoKeeper) {
			t.Error(err)
		}
		// An orphan, it is this program's to reap if a test before has made it the one
		// that orphans go to (Supervisor.ReapOrphans). No supervisor is there any more.
		for pid := 1; pid > 0; {
			pid, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
		}
	})
	made, err := template.Get(t.Context(), dir, q)
	if err != nil {
		t.Fatal(err)
	}
	made.Close()
}

// A keeper that gives out what is no template costs a pod some time, and nothing
// else.
func TestBrokenTemplate(t *testing.T) {
	needGuest(t)
	cloned := conf
	cloned.Template, cloned.RunDir = configs.CopiedTemplate, t.TempDir()
	dir := template.Dir(cloned.RunDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan int)
	go func() {
		n := 0
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				asked <- n
				return
			}
			n++
			giveBroken(conn, int64(cloned.Class(cloned.MemoryMiB))<<20)
		}
	}()
	runtimetest.Run(t, newHost(cloned))
	_ = l.Close()
	if <-asked == 0 {
		t.Error("nobody has asked for a template")
	}
}

// giveBroken answers as a keeper does, with sealed files in which there is nothing.
func giveBroken(conn *net.UnixConn, size int64) {
	defer func() { _ = conn.Close() }()
	_, _ = conn.Read(make([]byte, 64<<10))
	var fds []int
	for _, size := range []int64{size, 0} {
		fd, err := unix.MemfdCreate("broken", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			return
		}
		defer func() { _ = unix.Close(fd) }()
		_ = unix.Ftruncate(fd, size)
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
		fds = append(fds, fd)
	}
	_, _, _ = conn.WriteMsgUnix([]byte(`{"templates": [{"state": "ready"}]}`), unix.UnixRights(fds...), nil)
}

func given(t *testing.T, conf configs.VM) (n int) {
	t.Helper()
	all, _, err := template.List(t.Context(), template.Dir(conf.RunDir), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		n += x.Given
	}
	return n
}
