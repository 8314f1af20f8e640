// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/sandbox/mux"
)

// copyChunk is the size in bytes of a copy's buffer: four frames, half of a stream's
// window and of a pipe. The process fills the one half while the other is sent;
// with less it and the agent, which share a CPU, take turns too often.
const copyChunk = 4 * mux.MaxPayload

// output copies from a pipe or FIFO to a stream, and counts.
type output struct {
	stream *mux.Stream
	file   *os.File
	raw    syscall.RawConn

	mu       sync.Mutex
	taken    uint64        // bytes read from the file
	sent     uint64        // of these, what has been dealt with
	progress chan struct{} // closed and replaced when sent rises
	broken   bool          // the stream takes no more
	done     chan struct{} // closed when the copy has ended
}

func newOutput(stream *mux.Stream) *output {
	return &output{stream: stream, progress: make(chan struct{}), done: make(chan struct{})}
}

// from takes over what to copy from.
func (o *output) from(f *os.File) (err error) {
	o.file = f
	o.raw, err = f.SyscallConn()
	return err
}

// run copies to the end of the file, which is the end of the stream. What the
// stream does not take is read and dropped, so that the process never waits
// for it.
func (o *output) run() {
	defer close(o.done)
	buf := make([]byte, copyChunk)
	for {
		n, err := o.read(buf)
		if n > 0 && !o.broken {
			_, werr := o.stream.Write(buf[:n])
			o.broken = werr != nil
		}
		o.mu.Lock()
		o.sent += uint64(max(n, 0))
		close(o.progress)
		o.progress = make(chan struct{})
		o.mu.Unlock()
		if n <= 0 || err != nil {
			_ = o.stream.CloseWrite() // of a session that has ended, if it fails
			return
		}
	}
}

// read counts what it takes in the same moment, so that drain sees each byte
// either in the file or taken.
func (o *output) read(buf []byte) (n int, err error) {
	waitErr := o.raw.Read(func(fd uintptr) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		for {
			if n, err = unix.Read(int(fd), buf); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		o.taken += uint64(max(n, 0))
		return !errors.Is(err, unix.EAGAIN)
	})
	return n, errors.Join(err, waitErr)
}

// drain waits until what is in the file now was sent.
func (o *output) drain(ctx context.Context) (uint64, error) {
	o.mu.Lock()
	owed := o.taken
	_ = o.raw.Control(func(fd uintptr) { // closed: nothing is in it
		if n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			owed += uint64(n)
		}
	})
	o.mu.Unlock()
	for {
		o.mu.Lock()
		sent, progress := o.sent, o.progress
		o.mu.Unlock()
		if sent >= owed {
			return owed, nil
		}
		select {
		case <-progress:
		case <-o.done:
			return sent, nil
		case <-ctx.Done():
			return sent, fmt.Errorf("drain: at least %d bytes left: %w", owed-sent, ctx.Err())
		}
	}
}

func (o *output) close() {
	_ = o.stream.Close()
	if o.file != nil {
		_ = o.file.Close()
	}
}

// input copies from a stream to a pipe or FIFO.
type input struct {
	stream *mux.Stream
	file   *os.File
}

// run copies to the end of the stream and has the process see it. A process
// that reads no more ends the stream.
func (i *input) run(end func() error) {
	buf := make([]byte, copyChunk)
	_, err := io.CopyBuffer(struct{ io.Writer }{i.file}, struct{ io.Reader }{i.stream}, buf)
	_ = i.file.Close()
	_ = end() // a close of a descriptor
	if err != nil {
		_ = i.stream.Close()
	}
}

func (i *input) close() {
	_ = i.stream.Close()
	if i.file != nil {
		_ = i.file.Close()
	}
}
