// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// endpoint is an open file that relays read from or write to. It may be shared
// (stdout and stderr into one file; both directions of a terminal); the last
// release closes it.
type endpoint struct {
	name string
	file *os.File
	raw  syscall.RawConn
	tty  bool
	refs atomic.Int32
}

// newEndpoint takes ownership of fd and returns an endpoint with one reference.
// A descriptor in non-blocking mode is waited for by the netpoller.
func newEndpoint(fd int, name string) (*endpoint, error) {
	e := &endpoint{name: name, file: os.NewFile(uintptr(fd), name)}
	raw, err := e.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, e.file.Close())
	}
	e.raw = raw
	e.refs.Store(1)
	return e, nil
}

func (e *endpoint) retain() *endpoint {
	e.refs.Add(1)
	return e
}

// release gives back one reference; it does nothing on nil.
func (e *endpoint) release() {
	if e != nil && e.refs.Add(-1) == 0 {
		e.file.Close()
	}
}

// wakeReader and limitWriter do nothing where the file knows no deadlines (a
// regular file): there reads and writes do not wait for anybody either.
func (e *endpoint) wakeReader()             { _ = e.file.SetReadDeadline(time.Unix(1, 0)) }
func (e *endpoint) rearmReader()            { _ = e.file.SetReadDeadline(time.Time{}) }
func (e *endpoint) limitWriter(t time.Time) { _ = e.file.SetWriteDeadline(t) }

// openOutput opens what a client named for stdout or stderr.
//
// A FIFO is opened for reading too: a write then never meets EPIPE, and a reader
// may go away and come back. Symbolic links are
// followed: the name comes over containerd's root-only socket, and no container
// can write to the directories on the way. The file is looked at through an
// O_PATH descriptor and then opened through that, so that what is checked is
// what is opened.
func openOutput(ctx context.Context, stream string, t target, patience time.Time) (*endpoint, error) {
	if t.kind == targetFile {
		if err := makeFile(t.path); err != nil {
			return nil, fmt.Errorf("make %s file: %w", stream, err)
		}
	}
	handle, mode, err := openHandle(stream, t.path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(handle)
	var flags int
	switch mode {
	case unix.S_IFIFO:
		writer, err := awaitReader(ctx, handle, patience)
		if err != nil {
			return nil, fmt.Errorf("wait for a reader of %s %s: %w", stream, t.path, err)
		}
		defer unix.Close(writer) // not before it is open below, lest the reader see the end
		flags = unix.O_RDWR | unix.O_NONBLOCK
	case unix.S_IFREG:
		flags = unix.O_WRONLY | unix.O_APPEND
	case unix.S_IFCHR:
		flags = unix.O_WRONLY | unix.O_APPEND | unix.O_NONBLOCK | unix.O_NOCTTY
	default:
		return nil, fmt.Errorf("%s %s: neither a FIFO nor a file: %w", stream, t.path, errdefs.ErrInvalidArgument)
	}
	fd, err := reopen(handle, flags)
	if err != nil {
		return nil, fmt.Errorf("open %s %s: %w", stream, t.path, err)
	}
	return newEndpoint(fd, t.path)
}

// awaitReader returns once the FIFO behind handle has a reader, or patience is over,
// with a write end, which the caller owns. What is written to a FIFO is lost when the last end is closed: a
// client that opens it in a goroutine, as containerd's does, would find nothing of a
// process that had ended before it came to that.
func awaitReader(ctx context.Context, handle int, patience time.Time) (writer int, err error) {
	writer, err = reopen(handle, unix.O_WRONLY|unix.O_NONBLOCK)
	if !errors.Is(err, unix.ENXIO) { // no process has it open for reading, fifo(7)
		return writer, err
	}
	type result struct {
		fd  int
		err error
	}
	opened := make(chan result, 1)
	go func() { // without O_NONBLOCK, open(2) waits for a reader
		fd, err := reopen(handle, unix.O_WRONLY)
		opened <- result{fd, err}
	}()
	waiting, cancel := context.WithDeadline(ctx, patience)
	defer cancel()
	select {
	case r := <-opened:
		return r.fd, r.err
	case <-waiting.Done():
	}
	reader, err := reopen(handle, unix.O_RDONLY|unix.O_NONBLOCK) // ends the wait
	if err != nil {
		return -1, err // there are no descriptors left; the goroutine ends with the first reader
	}
	r := <-opened
	_ = unix.Close(reader)
	if r.err == nil && ctx.Err() != nil {
		_ = unix.Close(r.fd)
		return -1, ctx.Err()
	}
	return r.fd, r.err
}

// openInput opens a stdin FIFO twice: to read from, and a write end that is
// held so that a client that goes away is not the end of the input.
func openInput(t target) (from *endpoint, hold *os.File, err error) {
	handle, mode, err := openHandle("stdin", t.path)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(handle)
	if mode != unix.S_IFIFO {
		return nil, nil, fmt.Errorf("stdin %s: not a FIFO: %w", t.path, errdefs.ErrInvalidArgument)
	}
	r, err := reopen(handle, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("open stdin fifo %s: %w", t.path, err)
	}
	if from, err = newEndpoint(r, t.path); err != nil {
		return nil, nil, err
	}
	w, err := reopen(handle, unix.O_WRONLY|unix.O_NONBLOCK)
	if err != nil {
		from.release()
		return nil, nil, fmt.Errorf("hold stdin fifo %s: %w", t.path, err)
	}
	return from, os.NewFile(uintptr(w), t.path), nil
}

// makeFile makes a log file and its directories, with the modes that
// containerd's shim uses. O_NONBLOCK is for a FIFO of that name.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// openHandle returns an O_PATH descriptor, owned by the caller, and the file type.
func openHandle(stream, path string) (fd int, mode uint32, err error) {
	fd, err = ignoringEINTR(func() (int, error) {
		return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return -1, 0, fmt.Errorf("%s %s: no such file; a FIFO has to be made before it is named: %w",
			stream, path, errdefs.ErrInvalidArgument)
	} else if err != nil {
		return -1, 0, fmt.Errorf("look up %s %s: %w", stream, path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("look at %s %s: %w", stream, path, err)
	}
	return fd, st.Mode & unix.S_IFMT, nil
}

// reopen opens the file behind an O_PATH descriptor, see proc_pid_fd(5).
func reopen(handle, flags int) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/self/fd/%d", handle), flags|unix.O_CLOEXEC, 0)
	})
}

// ignoringEINTR repeats a call that a signal to the shim cut short.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR { //nolint:errorlint // a bare errno of the call
			return n, err
		}
	}
}
