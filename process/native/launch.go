// SPDX-License-Identifier: Apache-2.0

package native

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
)

// launch starts a process in a container and adopts it: the init, which then
// waits for Start, or one more.
func (d *Driver) launch(c *libcontainer.Container, hold *process.Hold, spec *specs.Process, stdio oci.Stdio, init bool) (*process.Process, error) {
	p, err := newProcess(spec)
	if err != nil {
		return nil, err
	}
	oneProcessor()
	p.Init = init
	p.LogLevel = strconv.Itoa(int(logrus.GetLevel()))
	done, err := attach(p, spec, stdio)
	if err != nil {
		return nil, err
	}
	defer done()
	if init {
		err = c.Start(p)
	} else {
		err = c.Run(p)
	}
	if err != nil {
		return nil, err
	}
	pid, err := p.Pid()
	if err != nil {
		return nil, err
	}
	adopted, err := hold.Adopt(pid)
	if err != nil {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait()
		return nil, err
	}
	return adopted, nil
}

// oneProcessor has the library begin a container's process on one processor: it
// hands on its own GOMAXPROCS, and sets that back to one as soon as it has come
// up, which stops the world. What is set for this program itself was read when
// it began.
var oneProcessor = sync.OnceFunc(func() { _ = os.Setenv("GOMAXPROCS", "1") })

// handOver fails for a process that nobody waits for any more, which it ends.
func (c *call) handOver(p *process.Process) error {
	if c.commit() {
		return nil
	}
	end(p)
	return errors.New("nobody waits for it any more")
}

// end ends a process that nobody wants.
func end(p *process.Process) {
	_ = p.Signal(unix.SIGKILL)
	<-p.Done()
}

// attach gives the process its stdio, or the socket that its terminal is sent
// to, which done closes.
func attach(p *libcontainer.Process, spec *specs.Process, stdio oci.Stdio) (done func(), err error) {
	done = func() {}
	socket := ""
	if stdio != nil {
		socket = stdio.ConsoleSocket()
	}
	switch {
	case spec.Terminal && socket == "":
		return nil, errors.New("cannot allocate tty if runc will detach without setting console socket")
	case !spec.Terminal && socket != "":
		return nil, errors.New("cannot use console socket if runc will not detach or allocate tty")
	case socket != "":
		if p.ConsoleSocket, err = dial(socket); err != nil {
			return nil, err
		}
		return func() { _ = p.ConsoleSocket.Close() }, nil
	case stdio == nil:
		return done, nil // /dev/null, as os/exec has it
	}
	for fd, f := range stdio.Files() {
		if f == nil {
			continue
		}
		// Programs expect this of what they inherit.
		if err := syscall.SetNonblock(int(f.Fd()), false); err != nil {
			return nil, fmt.Errorf("make descriptor %d blocking: %w", fd, err)
		}
		switch fd {
		case 0:
			p.Stdin = f
		case 1:
			p.Stdout = f
		case 2:
			p.Stderr = f
		}
	}
	return done, nil
}

// dial connects to a unix socket. The connection stays out of the poller: it is
// the child's.
func dial(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("dial unix %s: connect: %w", path, err)
	}
	return os.NewFile(uintptr(fd), "console socket"), nil
}
