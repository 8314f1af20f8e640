// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox/runtimetest"
)

// stalling is a runc that, once, stops for good before one of its commands, and
// notes its pid when it does.
func stalling(t *testing.T, command string) (program, stalled string) {
	t.Helper()
	runc := needRunc(t)
	dir := t.TempDir()
	program, stalled = filepath.Join(dir, "runc"), filepath.Join(dir, "stalled")
	script := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in *' %s '*) if ! test -e %s; then echo $$ > %[2]s.new; mv %[2]s.new %[2]s; exec sleep 1000; fi;; esac\nexec %s \"$@\"\n",
		command, stalled, runc)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, stalled
}

// whenThere ends a context with cause once a file is there.
func whenThere(ctx context.Context, path string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(path); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond) // nobody tells of it
		}
	}()
	return ctx, cancel
}

// A create whose caller gives up is given up in the guest too, at once, and the
// name is free again.
func TestCreateGivenUp(t *testing.T) {
	program, stalled := stalling(t, "create")
	h := newGuestHostOver(t, program)
	p := runtimetest.NewPod(t, h.Host)
	other := p.Box("other", "sleep 1000")
	box := p.Box("a", "sleep 1000")
	ctx, cancel := whenThere(t.Context(), stalled)
	defer cancel()
	if err := box.TryCreateWithin(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	var pid int
	text, err := os.ReadFile(stalled)
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the guest's runtime goes on: %v", err)
	}
	for _, b := range []*runtimetest.Box{other, box} {
		b.Run()
		if err := b.C.Kill(t.Context(), "", unix.SIGKILL, false); err != nil {
			t.Error(err)
		}
		b.Wait("")
		b.Delete("")
	}
}
