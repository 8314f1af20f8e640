// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pipes are the child's ends of a process's pipes. The other ends are copied
// from and to by the stdio itself, without anything in between.
type pipes struct {
	mu    sync.Mutex
	child [3]*os.File // nil where it is /dev/null, and after Attach
}

// pipeSize is more than the kernel's default, so that a busy process and the
// copying take turns less often; each of them is a switch of tasks, which are
// slow in an emulated guest.
const pipeSize = 256 << 10

func openPipes(st *stdio, o opening) error {
	p := new(pipes)
	st.feed = p
	if st.in != nil {
		r, w, err := pipe(o, true)
		if err != nil {
			return fmt.Errorf("make stdin pipe: %w", err)
		}
		p.child[0], st.in.file = r, w
	}
	for i, out := range st.out {
		if out == nil {
			continue
		}
		r, w, err := pipe(o, false)
		if err != nil {
			return fmt.Errorf("make output pipe: %w", err)
		}
		p.child[1+i] = w
		if err := out.from(r); err != nil {
			return err
		}
	}
	return nil
}

// pipe makes a pipe whose child's end, the reading one of stdin, blocks and
// belongs to the configured user.
func pipe(o opening, stdin bool) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // a wish
	child, ours := fds[1], fds[0]
	if stdin {
		child, ours = fds[0], fds[1]
	}
	err = unix.SetNonblock(ours, true)
	if o.uid != 0 || o.gid != 0 {
		err = errors.Join(err, unix.Fchown(child, int(o.uid), int(o.gid)))
	}
	if err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// Files are what the process gets.
func (p *pipes) Files() []*os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*os.File(nil), p.child[:]...)
}

// ConsoleSocket is of a process with a terminal.
func (p *pipes) ConsoleSocket() string { return "" }

// Attach lets go of what the process has now.
func (p *pipes) Attach(context.Context) error { return p.Close() }

// CloseStdin has nothing to hold: the end of the copy is the end of the input.
func (p *pipes) CloseStdin() error { return nil }

// Resize does nothing without a terminal.
func (p *pipes) Resize(uint16, uint16) error { return nil }

// Drain has nothing to wait for: what is in the pipes, the copies see.
func (p *pipes) Drain(context.Context) error { return nil }

// Close closes the child's ends. It may be called again.
func (p *pipes) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for i, f := range p.child {
		if f != nil {
			errs = append(errs, f.Close())
		}
		p.child[i] = nil
	}
	return errors.Join(errs...)
}
