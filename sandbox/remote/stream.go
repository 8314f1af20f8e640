// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox"
	"berth/sandbox/agentapi"
)

var _ sandbox.Streams = (*stdio)(nil)

// stdio is the stdio of a process in the guest. Streams are those of a process
// of this kernel that has no terminal, and in place of one stand copies
// between its descriptors and streams of the session.
type stdio struct {
	sandbox.Streams
	terminal bool
	uid, gid uint32 // of the pipes that the process gets

	mu     sync.Mutex
	r      *guest // nil until the process is being made
	number uint64
	in     *copyIn     // nil without stdin
	out    [2]*copyOut // nil where there is none
	copies sync.WaitGroup
}

// openStdio opens the client's side.
func openStdio(ctx context.Context, host sandbox.Kernel, cfg process.StreamsConfig) (*stdio, error) {
	s := &stdio{terminal: cfg.Stdio.Terminal, uid: uint32(cfg.UID), gid: uint32(cfg.GID)}
	if s.terminal { // it is in the guest; its output is one stream
		cfg.Stdio.Terminal, cfg.Stdio.Stderr = false, ""
	}
	cfg.UID, cfg.GID = 0, 0
	var err error
	s.Streams, err = host.OpenStreams(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// join begins the copying for a process that is about to be made. Close ends
// it, in any case.
func (s *stdio) join(ctx context.Context, r *guest, number uint64) (*agentapi.Stdio, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.r, s.number = r, number
	ids := &agentapi.Stdio{Terminal: s.terminal}
	into := [3]*uint32{&ids.Stdin, &ids.Stdout, &ids.Stderr}
	for i, f := range s.Files() {
		if f == nil {
			continue
		}
		file, err := inherit(f)
		if err != nil {
			return nil, err
		}
		stream, err := r.openStream(ctx)
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		*into[i] = stream.ID()
		if i == 0 {
			s.in = &copyIn{file: file, stream: stream}
			s.copies.Go(s.in.run)
			continue
		}
		o := newCopyOut(file, stream)
		s.out[i-1] = o
		s.copies.Go(o.run)
	}
	return ids, nil
}

// inherit is a descriptor as a child would get it, for the poller to wait on.
func inherit(f *os.File) (*os.File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if ctlErr := conn.Control(func(from uintptr) {
		if fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, true) // of this end of the pipe alone
		}
	}); ctlErr != nil {
		return nil, ctlErr
	}
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Drain returns when what the process wrote before it exited was passed on. Of
// a guest that has ended that is all that has come.
func (s *stdio) Drain(ctx context.Context) error {
	s.mu.Lock()
	r, number, out := s.r, s.number, s.out
	s.mu.Unlock()
	var err error
	if r != nil && (out[0] != nil || out[1] != nil) {
		var sent *agentapi.DrainResponse
		sent, err = call(ctx, r, runtimeTimeout, "drain", r.agent.Drain, &agentapi.ProcessRequest{Process: number})
		if r.isDead() {
			sent, err = new(agentapi.DrainResponse), nil
			for _, o := range out {
				o.awaitEnd(ctx)
			}
		}
		if err == nil {
			err = errors.Join(out[0].await(ctx, sent.Stdout), out[1].await(ctx, sent.Stderr))
		}
	}
	return errors.Join(err, s.Streams.Drain(ctx))
}

// Resize sets the size of the terminal in the guest.
func (s *stdio) Resize(width, height uint16) error {
	if !s.terminal {
		return nil
	}
	s.mu.Lock()
	r, number := s.r, s.number
	s.mu.Unlock()
	if r == nil {
		return fmt.Errorf("resize: there is no console yet: %w", errdefs.ErrFailedPrecondition)
	}
	_, err := call(context.Background(), r, readTimeout, "resize the terminal", r.agent.Resize,
		&agentapi.ResizeRequest{Process: number, Width: uint32(width), Height: uint32(height)})
	return err
}

// Close ends both sides. What was not drained is lost.
func (s *stdio) Close() error {
	s.mu.Lock()
	r, number, in, out := s.r, s.number, s.in, s.out
	s.r, s.in, s.out = nil, nil, [2]*copyOut{}
	s.mu.Unlock()
	var err error
	if r != nil && !r.isDead() {
		_, err = call(context.Background(), r, readTimeout, "close streams", r.agent.Release,
			&agentapi.ProcessRequest{Process: number})
		if errors.Is(err, errdefs.ErrNotFound) || r.isDead() {
			err = nil // it was not made, or has gone
		}
	}
	if in != nil {
		in.close()
	}
	for _, o := range out {
		if o != nil {
			o.close()
		}
	}
	s.copies.Wait()
	return errors.Join(err, s.Streams.Close())
}
