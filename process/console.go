// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// socketPathMax is sizeof(sun_path) less the terminating NUL, see unix(7).
const socketPathMax = 107

// consoleSocket is where the OCI runtime sends the master of the pty that it
// made inside the container (runc's --console-socket).
type consoleSocket struct {
	listener *net.UnixListener
	path     string
}

// consolePrefix begins the names of one process's console sockets.
func consolePrefix(pid int) string { return fmt.Sprintf("tty%d-", pid) }

// RemoveConsoleSockets removes the console sockets that a process which has
// gone left in dir. It does nothing while there is a process of that number.
func RemoveConsoleSockets(dir string, pid int) {
	if dir == "" || pid <= 0 || unix.Kill(pid, 0) == nil {
		return
	}
	left, _ := filepath.Glob(filepath.Join(dir, consolePrefix(pid)+"*")) // no error but a bad pattern
	for _, path := range left {
		_ = os.Remove(path)
	}
}

// listenConsole makes a socket of a short name in dir, which has to be private.
func listenConsole(dir string) (*consoleSocket, error) {
	path := filepath.Join(dir, fmt.Sprintf("%s%08x", consolePrefix(os.Getpid()), rand.Uint32()))
	if len(path) > socketPathMax {
		return nil, fmt.Errorf("console socket %s: the path has %d bytes, the kernel takes %d: %w",
			path, len(path), socketPathMax, errdefs.ErrInvalidArgument)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for console: %w", err)
	}
	c := &consoleSocket{listener: listener, path: path}
	if err := os.Chmod(path, 0o600); err != nil {
		c.close()
		return nil, fmt.Errorf("restrict console socket: %w", err)
	}
	return c, nil
}

// close ends a receive that is under way and removes the socket file. It may be
// called again, and on nil.
func (c *consoleSocket) close() {
	if c != nil {
		c.listener.Close() // unlinks
	}
}

// receive waits for one connection and one descriptor on it, as long as ctx
// allows, and returns the console, non-blocking and close-on-exec.
func (c *consoleSocket) receive(ctx context.Context) (*endpoint, error) {
	defer context.AfterFunc(ctx, func() { c.listener.SetDeadline(time.Unix(1, 0)) })()
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("wait for the runtime to send a console: %w", errors.Join(ctx.Err(), err))
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()

	// The payload is the name of the pty; room for one descriptor, as that is
	// what the protocol allows, and the kernel closes what is too much.
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := conn.ReadMsgUnix(name, oob) // sets MSG_CMSG_CLOEXEC
	if err != nil {
		return nil, fmt.Errorf("receive console from the runtime: %w", errors.Join(ctx.Err(), err))
	}
	fd, err := onlyDescriptor(oob[:oobn])
	if err != nil {
		return nil, fmt.Errorf("receive console from the runtime: %w", err)
	}
	return newConsole(fd)
}

// newConsole takes ownership of fd.
func newConsole(fd int) (*endpoint, error) {
	if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("the runtime sent something that is not a pty master: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make console non-blocking: %w", err)
	}
	e, err := newEndpoint(fd, "console")
	if err != nil {
		return nil, err
	}
	e.tty = true
	return e, nil
}

// onlyDescriptor returns the one descriptor in a control message and closes
// all if there are more.
func onlyDescriptor(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	var fds []int
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	if len(fds) == 1 {
		return fds[0], nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return -1, fmt.Errorf("%d descriptors came instead of one", len(fds))
}

// Resize sets the size of the terminal in character cells; the kernel sends
// SIGWINCH to its foreground processes. Without a terminal it does nothing,
// as in containerd's shim. Before Attach or after Close it is an
// errdefs.ErrFailedPrecondition.
func (s *Streams) Resize(width, height uint16) error {
	if s.console == nil {
		return nil
	}
	s.mu.Lock()
	master := s.master
	s.mu.Unlock()
	if master == nil {
		return fmt.Errorf("resize: there is no console yet: %w", errdefs.ErrFailedPrecondition)
	}
	var err error
	ctlErr := master.raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
	if ctlErr != nil { // the only error there is
		return fmt.Errorf("resize: the console is closed: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	return nil
}
