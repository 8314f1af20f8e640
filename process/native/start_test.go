// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

// stopped is a created container whose init does not get to where it waits for
// Start, and how a Start of it that is under way ends.
func stopped(b *box, ctx context.Context) (*process.Process, <-chan error) {
	b.Helper()
	p, err := b.tryCreate(nil)
	b.must(err)
	b.must(p.Signal(unix.SIGSTOP))
	started := make(chan error, 1)
	go func() { started <- b.driver.Start(ctx, b.id) }()
	fifo := filepath.Join(b.driver.Root, b.id, execFifo)
	b.until("Start waits", func() bool {
		fds, err := os.ReadDir("/proc/self/fd")
		b.must(err)
		for _, fd := range fds {
			if file, _ := os.Readlink("/proc/self/fd/" + fd.Name()); file == fifo {
				return true
			}
		}
		return false
	})
	return p, started
}

func ended(b *box, call <-chan error) error {
	b.Helper()
	select {
	case err := <-call:
		return err
	case <-time.After(limit):
		b.Fatal("the call does not end")
		return nil
	}
}

// A Start ends with the init that it lets go. TestMain sees that no thread waits
// on.
func TestStartOfDyingInit(t *testing.T) {
	b := newBox(t, "exit 0")
	p, started := stopped(b, t.Context())
	b.kill(p)
	if err := ended(b, started); err == nil {
		t.Error("a dead init was started")
	}
	b.must(b.driver.Delete(t.Context(), b.id, false))
}

// A Start that was given up ends, and lets nothing go later. An init that had
// found its reader, but not yet written, dies of that, as with the command line.
func TestCancelledStart(t *testing.T) {
	b := newBox(t, "exit 7")
	ctx, cancel := context.WithCancelCause(t.Context())
	p, started := stopped(b, ctx)
	gone := errors.New("the client has gone")
	cancel(gone)
	if err := ended(b, started); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	b.must(p.Signal(unix.SIGCONT))
	b.must(b.driver.Delete(t.Context(), b.id, true))
	if status := b.status(p); status == 7 {
		t.Error("the program was run")
	}
}
