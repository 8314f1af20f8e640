// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The functions here put together what OpenStreams returns; what they have made
// so far is in s, whose Close undoes it.

func (s *Streams) openInput(cfg StreamsConfig, t target) error {
	from, hold, err := openInput(t)
	if err != nil {
		return err
	}
	s.hold = hold
	s.input = s.newRelay("stdin", from, nil)
	s.input.input = true
	if cfg.Stdio.Terminal {
		return nil
	}
	s.input.dst, s.child[0], err = childPipe(cfg, "stdin", ourWrite)
	return err
}

// openOutputs opens FIFOs and files. The process never gets a log file itself,
// only a pipe: with the file it could change what is written already.
func (s *Streams) openOutputs(ctx context.Context, cfg StreamsConfig, stdout, stderr target) error {
	patience := time.Now().Add(s.limits.reader)
	var shared *endpoint
	for i, t := range []target{stdout, stderr} {
		name := []string{"stdout", "stderr"}[i]
		if t.kind == targetNull && !(cfg.Stdio.Terminal && i == 0) {
			continue
		}
		// A terminal without a client is read all the same, or the process
		// would block on it.
		r := s.newRelay(name, nil, nil)
		s.outputs = append(s.outputs, r)
		var err error
		switch {
		case t.kind == targetNull:
		case shared != nil && stderr.path == stdout.path:
			r.dst = shared.retain()
		default:
			if r.dst, err = openOutput(ctx, name, t, patience); err != nil {
				return err
			}
			shared = r.dst
		}
		if cfg.Stdio.Terminal {
			continue
		}
		if r.src, s.child[1+i], err = childPipe(cfg, name, ourRead); err != nil {
			return err
		}
	}
	return nil
}

// openLogger starts a logger on two pipes, which are the child's stdout and
// stderr. With a terminal a relay writes to the first, and the second is at its
// end from the start.
func (s *Streams) openLogger(ctx context.Context, cfg StreamsConfig, t target) error {
	var inputs [2]*os.File
	defer func() {
		for _, f := range inputs {
			if f != nil {
				f.Close()
			}
		}
	}()
	for i, name := range []string{"stdout", "stderr"} {
		var err error
		if cfg.Stdio.Terminal {
			var to *endpoint
			if to, inputs[i], err = childPipe(StreamsConfig{}, name, ourWrite); err != nil {
				return err
			}
			if i == 0 {
				s.outputs = []*relay{s.newRelay(name, nil, to)}
			} else {
				to.release()
			}
			continue
		}
		r, w, err := pipe(cfg, name, ourRead)
		if err != nil {
			return err
		}
		inputs[i], s.child[1+i] = os.NewFile(uintptr(r), name), os.NewFile(uintptr(w), name)
	}
	var err error
	s.logger, err = startLogger(ctx, cfg, t, inputs, s.limits)
	return err
}

// direction says which end of a pipe stays here.
type direction bool

const (
	ourRead  direction = false
	ourWrite direction = true
)

// childPipe makes a pipe of which one end is ours and non-blocking. The other
// is the child's and blocking, which is a matter of each end alone.
func childPipe(cfg StreamsConfig, name string, d direction) (ours *endpoint, child *os.File, err error) {
	near, far, err := pipe(cfg, name, d)
	if err != nil {
		return nil, nil, err
	}
	child = os.NewFile(uintptr(far), name)
	if err = unix.SetNonblock(near, true); err != nil {
		unix.Close(near)
	} else {
		ours, err = newEndpoint(near, name)
	}
	if err != nil {
		child.Close()
		return nil, nil, fmt.Errorf("make %s pipe non-blocking: %w", name, err)
	}
	return ours, child, nil
}

// pipe makes a pipe whose far end belongs to the configured user, so that a
// process that is not root can open /dev/stdout.
func pipe(cfg StreamsConfig, name string, d direction) (near, far int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("make %s pipe: %w", name, err)
	}
	if near, far = p[0], p[1]; d == ourWrite {
		near, far = far, near
	}
	if cfg.UID == 0 && cfg.GID == 0 {
		return near, far, nil
	}
	if err := unix.Fchown(far, cfg.UID, cfg.GID); err != nil {
		unix.Close(near)
		unix.Close(far)
		return -1, -1, fmt.Errorf("give %s pipe to %d:%d: %w", name, cfg.UID, cfg.GID, err)
	}
	return near, far, nil
}
