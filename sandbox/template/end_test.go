// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/vm"
)

// Who was about to be given a template that is dropped in the same moment is told
// so, and gets no descriptor.
func TestDroppedWhileGiven(t *testing.T) {
	var files [2]*os.File
	for i := range files {
		var err error
		if files[i], err = os.Open(os.DevNull); err != nil {
			t.Fatal(err)
		}
	}
	memory, state := files[0], files[1]
	h := &holding{made: make(chan struct{}), template: &vm.Template{Memory: memory, State: state}}
	close(h.made)
	k := &keeper{classes: map[string]*holding{h.request.class(): h}}
	k.mu.Lock()
	k.dropLocked(h)
	k.mu.Unlock()
	k.work.Wait()
	if got := h.describe(); got.State != Failed || got.Error == "" || h.template != nil || len(k.classes) != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := memory.Stat(); err == nil {
		t.Error("it is still held")
	}
}

// Nobody waits without end for a keeper that stays.
func TestKeeperStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "templates")
	p, err := occupy(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := awaitEnd(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("while it is there: %v", err)
	}
	p.close()
	if err := awaitEnd(t.Context(), dir); err != nil {
		t.Errorf("when it has gone: %v", err)
	}
}

// A process that ends is waited for, and one that does not as long as somebody
// wants to.
func TestAwaitExit(t *testing.T) {
	sup := process.NewSupervisor()
	defer sup.Close()
	p, err := sup.Start(&process.Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { <-p.Done() }()
	pidfd := func() *os.File {
		fd, err := unix.PidfdOpen(p.Pid(), unix.PIDFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), "pidfd")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := awaitExit(ctx, pidfd()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("of a process that lives, for nobody: %v", err)
	}
	f := pidfd()
	ended := make(chan error, 1)
	go func() { ended <- awaitExit(t.Context(), f) }()
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
