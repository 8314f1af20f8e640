// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client that is late to open its FIFO is waited for, so that all is there for it
// though the process has ended and its end of the FIFO is closed.
func TestOutputWaitsForItsReader(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		g := newRig(t)
		out := g.fifo("out")
		lim := testLimits()
		lim.reader = patience
		opened := make(chan error, 1)
		go func() {
			s, err := openStreams(g.ctx, g.config(Stdio{Stdout: out, Terminal: terminal}), lim)
			g.streams = s
			opened <- err
		}()
		// A writer that waits is not yet a writer: fifo(7) lets nobody open for writing
		// without a reader, so this open meets the shim's.
		reader, err := os.OpenFile(out, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
		if !terminal {
			g.exit(g.sh("echo all"), 0)
			if got, err := io.ReadAll(reader); string(got) != "all\n" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		}
		_ = reader.Close()
		g.close()
	}
}

// One that never comes is not waited for for ever, and one that has given up, with its
// request, not even so long. Nothing stays open.
func TestOutputWithoutAReader(t *testing.T) {
	g := newRig(t)
	out := g.fifo("out")
	lim := testLimits()
	lim.reader = time.Millisecond
	g.open(Stdio{Stdout: out}, lim)
	g.close()

	lim.reader = patience
	ctx, cancel := context.WithCancel(g.ctx)
	done := make(chan error, 1)
	go func() {
		_, err := openStreams(ctx, g.config(Stdio{Stdout: out}), lim)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("open for a caller that has gone: %v", err)
	}
	fd, err := unix.Open(out, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if !errors.Is(err, unix.ENXIO) {
		t.Errorf("somebody still reads: %d, %v", fd, err)
	}
}
