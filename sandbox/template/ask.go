// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/vm"
)

// askTimeout bounds the wait for a keeper, which answers from memory. A pod
// waits.
const askTimeout = 2 * time.Second

// ErrNoKeeper is that there is none in the directory.
var ErrNoKeeper = errors.New("no templates are kept")

// Get asks the keeper of a directory for a template. One that is not there yet
// is errdefs.ErrNotFound, and will be.
func Get(ctx context.Context, dir string, q Request) (*vm.Template, error) {
	r, files, err := ask(ctx, dir, q)
	if err != nil {
		return nil, err
	}
	if len(r.Templates) == 1 && r.Templates[0].State == Ready && len(files) == 2 {
		return &vm.Template{Memory: files[0], State: files[1], Sharing: q.Sharing}, nil
	}
	closeAll(files)
	if len(r.Templates) == 1 && r.Templates[0].State == Failed {
		return nil, fmt.Errorf("the template could not be made: %s", r.Templates[0].Error)
	}
	return nil, fmt.Errorf("the template is not there yet: %w", errdefs.ErrNotFound)
}

// List asks the keeper of a directory for what it has, once it is made if wait is
// true, and for its pid.
func List(ctx context.Context, dir string, wait bool) (all []Template, keeper int, _ error) {
	r, files, err := ask(ctx, dir, Request{Wait: wait})
	closeAll(files)
	return r.Templates, r.Pid, err
}

// End ends the keeper of a directory, and waits for that.
func End(ctx context.Context, dir string) error {
	r, files, err := ask(ctx, dir, Request{End: true})
	closeAll(files)
	if err != nil {
		return err
	}
	// It has just answered, and does not end before it has let go of its templates.
	fd, err := unix.PidfdOpen(r.Pid, unix.PIDFD_NONBLOCK)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("wait for the keeper's end: %w", err)
	}
	if err := awaitEnd(ctx, dir); err != nil || fd < 0 {
		return err
	}
	return awaitExit(ctx, os.NewFile(uintptr(fd), "pidfd"))
}

// awaitExit waits until a process has ended that has nothing left to do.
func awaitExit(ctx context.Context, pidfd *os.File) error {
	defer func() { _ = pidfd.Close() }()
	defer context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(time.Unix(1, 0)) })() // it is over
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 && err == nil
	})
	if err != nil {
		return fmt.Errorf("wait for the keeper's end: %w", err)
	}
	return nil
}

// awaitEnd waits until nobody has the place of a keeper. If ctx ends first the
// lock is let go of when it comes.
func awaitEnd(ctx context.Context, dir string) error {
	lock, err := os.Open(lockIn(dir))
	if err != nil {
		return fmt.Errorf("wait for the keeper's end: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		_ = lock.Close()
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("it has not ended, or another one has come: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("wait for the keeper's end: %w", err)
	}
	return nil
}

func ask(ctx context.Context, dir string, q Request) (r reply, files []*os.File, _ error) {
	if !q.Wait {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, askTimeout)
		defer cancel()
	}
	c, err := new(net.Dialer).DialContext(ctx, "unixpacket", socketIn(dir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return r, nil, ErrNoKeeper
	}
	if err != nil {
		return r, nil, fmt.Errorf("ask for templates: %w", err)
	}
	conn := c.(*net.UnixConn)
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return r, nil, err
		}
	}
	data, err := json.Marshal(q)
	if err == nil {
		_, err = conn.Write(data)
	}
	if err != nil {
		return r, nil, fmt.Errorf("ask for templates: %w", err)
	}
	if data, files, err = receive(conn); err != nil {
		return r, nil, fmt.Errorf("ask for templates: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil || r.Error != "" {
		closeAll(files)
		return r, nil, fmt.Errorf("ask for templates: the keeper says %q (%w)", r.Error, errors.Join(err, errdefs.ErrUnavailable))
	}
	return r, files, nil
}

// receive takes one message with what descriptors came with it.
func receive(conn *net.UnixConn) (data []byte, files []*os.File, _ error) {
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // nothing that was asked for
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "template"))
		}
	}
	return buf[:n], files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
