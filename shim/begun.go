// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"berth/configs"
)

// begun is a shim that listens already, and is yet to serve: as this process, or
// as one that is spawned.
type begun struct {
	Identity
	group    configs.Group
	listener Listener
}

// args is the command line of the shim.
func (b *begun) args(program string) []string {
	args := []string{program, "-namespace", b.Namespace, "-id", b.ID, "-address", b.Address}
	if b.group != "" {
		args = append(args, "-group", string(b.group))
	}
	if b.Debug {
		args = append(args, "-debug")
	}
	return args
}

// stdio is what a shim has for stdin and stdout, and for stderr: nothing of what
// containerd gave `start`, because containerd waits for the end of its pipes.
// stderr, where the Go runtime reports a crash, is the log.
type stdio struct{ null, log int }

func openStdio(bundle string) (stdio, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return stdio{}, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	fd, err := openLogFD(bundle)
	if err != nil {
		fd = null // a bundle without a log
	}
	return stdio{null, fd}, nil
}

func (s stdio) close() {
	_ = unix.Close(s.null)
	if s.log != s.null {
		_ = unix.Close(s.log)
	}
}

// take puts it in the place of this process's own.
func (s stdio) take() error {
	for fd, from := range []int{s.null, s.null, s.log} {
		if err := unix.Dup3(from, fd, 0); err != nil {
			return fmt.Errorf("let go of containerd's pipes: %w", err)
		}
	}
	return nil
}

// runtimeSettings are of the Go runtime of a shim, unless containerd says
// otherwise.
//
// GOMAXPROCS is what containerd sets for every shim anyway: a shim waits more than
// it computes, and each P holds memory of its own. GOGC has the heap collected at
// 2 MiB first, and not at 4: 0.3 MiB less after a hundred execs. The first create
// allocates 1.5, and is not slowed down (docs/performance.md).
var runtimeSettings = [...]struct {
	name  string
	value int
	set   func(int) int
}{
	{"GOMAXPROCS", 2, runtime.GOMAXPROCS},
	{"GOGC", 50, debug.SetGCPercent},
}

// answer replies for a shim that this process is to be, and lets go of containerd.
func (b *begun) answer(reply func() error) error {
	s, err := openStdio(b.Bundle)
	if err != nil {
		return err
	}
	defer s.close()
	if err := reply(); err != nil {
		return err
	}
	return s.take()
}

// stay makes this process the shim that it has begun.
func (e *Env) stay(ctx context.Context, b *begun) error {
	if err := e.Stay(b.args(e.Args[0])); err != nil {
		_, closeErr := closeSocket(b.SocketPath, func() bool { return true })
		return errors.Join(err, closeErr, b.listener.Close())
	}
	for _, s := range runtimeSettings {
		if e.lookup(s.name) == "" {
			s.set(s.value)
		}
	}
	return e.serve(ctx, ServeConfig{Identity: b.Identity, Listener: b.listener, Group: b.group})
}
