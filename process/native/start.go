// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// execFifo is the FIFO in the state's directory at which a created init waits:
// it writes a byte, for which somebody has to read, and goes on.
const execFifo = "exec.fifo"

// Start lets the init of a created container go.
func (d *Driver) Start(ctx context.Context, id string) error {
	return d.do(ctx, "start", d.Dir, func(*call) error {
		c, err := d.load(id)
		if err != nil {
			return err
		}
		s, err := c.State()
		if err != nil {
			return err
		}
		// Opened before the state is asked for, so that it is the init's and not of
		// another process with its number.
		init, err := unix.PidfdOpen(s.InitProcessPid, 0)
		if err == nil {
			defer func() { _ = unix.Close(init) }()
		}
		status, err := c.Status()
		switch {
		case err != nil:
			return err
		case status == libcontainer.Created && init >= 0:
			return letGo(ctx, filepath.Join(d.Root, id, execFifo), init)
		case status == libcontainer.Created, status == libcontainer.Stopped:
			return errStopped
		case status == libcontainer.Running:
			return errStarted
		}
		return fmt.Errorf("cannot start a container in the %s state", status)
	})
}

// letGo reads what an init has to say. The library's way would leave a thread
// behind for ever where the init dies meanwhile: it opens the FIFO for reading
// and waits for a writer.
func letGo(ctx context.Context, fifo string, init int) error {
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("exec fifo: %w", &os.PathError{Op: "open", Path: fifo, Err: err})
	}
	defer func() { _ = unix.Close(fd) }()
	if err := awaitInit(ctx, fd, unix.POLLIN, init); err != nil {
		return err
	}
	switch n, err := unix.Read(fd, make([]byte, 1)); {
	case errors.Is(err, unix.EAGAIN), n == 0 && isDone(init):
		return errors.New("container process is already dead")
	case err != nil:
		return fmt.Errorf("exec fifo: %w", &os.PathError{Op: "read", Path: fifo, Err: err})
	case n == 0: // somebody else has read it
		return errStarted
	}
	// It is started, whatever comes now; the library returns when the init has
	// closed the FIFO.
	_ = awaitInit(ctx, fd, 0, init)
	if err := os.Remove(fifo); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// awaitInit waits until the FIFO has what is waited for (poll(2)) or was closed by
// the init, or that is dead, or ctx ends.
func awaitInit(ctx context.Context, fifo int, what int16, init int) error {
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make an event: %w", err)
	}
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		_, _ = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // eventfd(2)
	})
	defer func() {
		if !stop() {
			<-told
		}
		_ = unix.Close(end)
	}()
	for {
		_, err := unix.Poll([]unix.PollFd{
			{Fd: int32(fifo), Events: what}, {Fd: int32(init), Events: unix.POLLIN}, {Fd: int32(end), Events: unix.POLLIN},
		}, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for the init: %w", err)
		}
		return ctx.Err()
	}
}

// isDone tells whether the process of a pidfd has ended.
func isDone(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 1
}
