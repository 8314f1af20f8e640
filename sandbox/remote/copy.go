// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"berth/sandbox/mux"
)

// copyChunk is the size in bytes of a copy's buffer: a frame, and half a pipe.
const copyChunk = mux.MaxPayload

// copyIn copies what a client sends to a process in the guest.
type copyIn struct {
	file   *os.File
	stream *mux.Stream
}

// run has the process see the end of its input, which is also where the client's
// pipe cannot be read any further. A process that reads no more is the end of
// the copy, and the client's pipe is then closed.
func (c *copyIn) run() {
	_, _ = io.CopyBuffer(struct{ io.Writer }{c.stream}, struct{ io.Reader }{c.file}, make([]byte, copyChunk))
	_ = c.file.Close()
	_ = c.stream.CloseWrite() // it or its session has ended, if it fails
}

func (c *copyIn) close() {
	_ = c.stream.Close()
	_ = c.file.Close()
}

// copyOut copies what a process in the guest writes to its client, and counts.
type copyOut struct {
	file   *os.File
	stream *mux.Stream
	done   chan struct{} // closed when the copy has ended

	mu       sync.Mutex
	passed   uint64        // bytes that were dealt with
	progress chan struct{} // closed and replaced when passed rises
}

func newCopyOut(file *os.File, stream *mux.Stream) *copyOut {
	return &copyOut{file: file, stream: stream, done: make(chan struct{}), progress: make(chan struct{})}
}

// run copies to the end of the stream. What nobody takes is read and dropped,
// as a pipe without a reader does not hold up the others of the guest.
func (c *copyOut) run() {
	defer close(c.done)
	defer func() { _ = c.file.Close() }()
	buf := make([]byte, copyChunk)
	broken := false
	for {
		n, err := c.stream.Read(buf)
		if n > 0 && !broken {
			_, werr := c.file.Write(buf[:n])
			broken = werr != nil
		}
		c.mu.Lock()
		c.passed += uint64(n)
		close(c.progress)
		c.progress = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until so many bytes have been dealt with, or no more will come.
func (c *copyOut) await(ctx context.Context, owed uint64) error {
	if c == nil {
		return nil
	}
	for {
		c.mu.Lock()
		passed, progress := c.passed, c.progress
		c.mu.Unlock()
		if passed >= owed {
			return nil
		}
		select {
		case <-progress:
		case <-c.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("drain %s: %d bytes have not come from the guest: %w", c.file.Name(), owed-passed, ctx.Err())
		}
	}
}

// awaitEnd waits until no more will come.
func (c *copyOut) awaitEnd(ctx context.Context) {
	if c == nil {
		return
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

func (c *copyOut) close() {
	_ = c.stream.Close()
	_ = c.file.Close()
}
