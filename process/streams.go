// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// StreamsConfig says whose streams to open and where.
type StreamsConfig struct {
	ID, Namespace string // of the container, for loggers
	Stdio         Stdio
	UID, GID      int         // owner of the child's pipes, where not root
	Supervisor    *Supervisor // starts loggers
	RunDir        string      // short private directory for the console socket
}

// limits are the times for which somebody else is waited for.
type limits struct {
	reader    time.Duration // a client that opens an output FIFO, once for all of them
	ready     time.Duration // a logger that starts
	finish    time.Duration // a logger that has seen the end of its input
	terminate time.Duration // a logger that got SIGTERM
	stall     time.Duration // in a drain, a reader that takes nothing
}

// defaultLimits: a client opens its FIFOs before it asks for the process, and is
// late by no more than a busy machine makes it; a start may load a cold image from
// a slow disk; finish and terminate together are the 12 s that containerd's shim
// gives a logger; a reader that took no byte of 64 KiB in 5 s is not coming back.
func defaultLimits() limits {
	return limits{reader: 10 * time.Second, ready: 30 * time.Second,
		finish: 2 * time.Second, terminate: 10 * time.Second, stall: 5 * time.Second}
}

// closeTimeout bounds the wait in Close for a relay that is inside a write to a
// file that does not return (a network file system). It owns its descriptors
// and ends when the write does.
const closeTimeout = 5 * time.Second

// Streams is the stdio of one process. OpenStreams, then hand Files or
// ConsoleSocket to the runtime, Attach once that succeeded, Drain after the
// exit, Close in any case. All methods may be called at the same time.
type Streams struct {
	limits  limits
	buffers sync.Pool      // of *[relayChunk]byte, for this process's relays
	console *consoleSocket // nil without a terminal
	logger  *logger        // nil without one
	input   *relay         // nil without stdin
	outputs []*relay

	// mu is held for assignments only.
	mu       sync.Mutex
	child    [3]*os.File // the child's ends, until Attach
	hold     *os.File    // our write end of the stdin FIFO, until CloseStdin
	master   *endpoint   // of the terminal, from Attach on
	attached bool
	closed   bool

	closing  sync.Once
	closeErr error
}

// OpenStreams opens FIFOs and files, makes the child's pipes and starts the
// logger, which ctx bounds. It undoes itself on error. A name that cannot be
// used is an errdefs.ErrInvalidArgument.
func OpenStreams(ctx context.Context, cfg StreamsConfig) (*Streams, error) {
	return openStreams(ctx, cfg, defaultLimits())
}

func openStreams(ctx context.Context, cfg StreamsConfig, lim limits) (_ *Streams, retErr error) {
	stdin, stdout, stderr, err := cfg.Stdio.targets()
	if err != nil {
		return nil, err
	}
	s := &Streams{limits: lim}
	s.buffers.New = func() any { return new([relayChunk]byte) }
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, s.Close())
		}
	}()
	if stdin.kind != targetNull {
		if err := s.openInput(cfg, stdin); err != nil {
			return nil, err
		}
	}
	if cfg.Stdio.Terminal {
		if s.console, err = listenConsole(cfg.RunDir); err != nil {
			return nil, err
		}
	}
	if stdout.isLogger() {
		err = s.openLogger(ctx, cfg, stdout)
	} else {
		err = s.openOutputs(ctx, cfg, stdout, stderr)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Files returns the child's descriptors 0, 1 and 2, nil standing for
// /dev/null; nothing for a terminal or after Attach. Streams keeps owning them.
func (s *Streams) Files() []*os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.console != nil || s.attached {
		return nil
	}
	return append([]*os.File(nil), s.child[:]...)
}

// ConsoleSocket returns the path of the socket on which the runtime has to send
// the console, "" without a terminal. The file is gone after Attach.
func (s *Streams) ConsoleSocket() string {
	if s.console == nil {
		return ""
	}
	return s.console.path
}

// Attach starts the relays. Call it once, when the runtime has started the
// process: the child's ends are closed here, so that the ends of the streams
// can be seen, and the console, which the runtime has sent, is taken. ctx
// bounds the wait for that.
func (s *Streams) Attach(ctx context.Context) error {
	s.closeChild()
	var master *endpoint
	if s.console != nil {
		var err error
		master, err = s.console.receive(ctx)
		s.console.close()
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.attached {
		master.release()
		return fmt.Errorf("attach: the streams are closed or attached already: %w", errdefs.ErrFailedPrecondition)
	}
	s.attached, s.master = true, master
	if master != nil {
		s.outputs[0].src = master.retain()
		if s.input != nil {
			s.input.dst = master.retain()
		}
	}
	for _, r := range s.relays() {
		go r.run() // Close waits for it
	}
	return nil
}

// CloseStdin gives up our hold on the stdin FIFO. The process sees the end of
// its input once the clients have closed theirs and all is read.
func (s *Streams) CloseStdin() error {
	s.mu.Lock()
	hold := s.hold
	s.hold = nil
	s.mu.Unlock()
	if hold == nil {
		return nil
	}
	return hold.Close()
}

// Close ends the relays and the logger and waits for them, for a bounded time.
// What was not drained is lost. Only the first call does it; all wait for it.
func (s *Streams) Close() error {
	s.closing.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Streams) close() error {
	s.mu.Lock()
	s.closed = true // no relay starts from here on
	attached, master := s.attached, s.master
	s.mu.Unlock()

	s.console.close()
	s.closeChild()
	errs := []error{s.CloseStdin()}
	for _, r := range s.relays() {
		if attached {
			r.stop()
		} else {
			r.release()
		}
	}
	if attached {
		deadline := time.Now().Add(closeTimeout)
		for _, r := range s.relays() {
			if !within(r.done, time.Until(deadline)) {
				errs = append(errs, fmt.Errorf("close %s: a write has been stuck for %s", r.name, closeTimeout))
			}
		}
	}
	master.release()
	return errors.Join(append(errs, s.logger.stop())...)
}

func (s *Streams) closeChild() {
	s.mu.Lock()
	child := s.child
	s.child = [3]*os.File{}
	s.mu.Unlock()
	for _, f := range child {
		if f != nil {
			f.Close()
		}
	}
}

func (s *Streams) relays() []*relay {
	if s.input == nil {
		return s.outputs
	}
	return append([]*relay{s.input}, s.outputs...)
}
