// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// logger is a program that takes the output of one process. The contract is
// that of containerd's shim: descriptors 3 and 4 are the read ends of stdout
// and stderr, 5 is a pipe on which it says that it is ready, and its
// environment is CONTAINER_ID and CONTAINER_NAMESPACE and nothing else.
//
// The process writes straight into the logger's pipes. As with containerd's
// shim, one that writes when its logger is gone gets SIGPIPE: to keep the pipes
// readable here would take the output from a logger that went to the background.
type logger struct {
	path   string
	proc   *Process
	limits limits
}

// startLogger starts the program and waits until it is ready. outputs are the
// read ends; the caller keeps owning them. They are in blocking mode, because
// the program shares the open file.
func startLogger(ctx context.Context, cfg StreamsConfig, t target, outputs [2]*os.File, lim limits) (*logger, error) {
	ready, child, err := childPipe(StreamsConfig{}, "ready", ourRead)
	if err != nil {
		return nil, err
	}
	defer ready.release()
	proc, err := cfg.Supervisor.Start(&Command{
		Path:  t.path,
		Args:  t.args,
		Env:   []string{"CONTAINER_ID=" + cfg.ID, "CONTAINER_NAMESPACE=" + cfg.Namespace},
		Files: []*os.File{nil, nil, nil, outputs[0], outputs[1], child},
		// It outlives this process if need be, to write down what it was sent.
		OwnGroup: true,
	})
	child.Close()
	if err != nil {
		return nil, fmt.Errorf("start logger %s: %w", t.path, err)
	}
	l := &logger{path: t.path, proc: proc, limits: lim}
	if err := l.awaitReady(ctx, ready.file, t.kind == targetLoggerV2); err != nil {
		return nil, errors.Join(err, l.kill())
	}
	return l, nil
}

// awaitReady waits for a byte or the end of file. Only the byte proves that the
// program lives, and only binary-v2 promises it.
func (l *logger) awaitReady(ctx context.Context, ready *os.File, byteNeeded bool) error {
	ctx, cancel := context.WithTimeout(ctx, l.limits.ready)
	defer cancel()
	defer context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })()
	_, err := ready.Read(make([]byte, 1))
	switch {
	case err == nil, errors.Is(err, io.EOF) && !byteNeeded:
		return nil
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("logger %s was not ready in time; it has to close descriptor 5, or write to it: %w",
			l.path, errors.Join(ctx.Err(), err))
	}
	// The descriptor is closed before the exit can be seen. Where the program
	// did exit, killing it changes nothing, and its status says more.
	if err := l.kill(); err != nil {
		return err
	}
	if exit := l.proc.Exit(); exit.Status != 128+int(unix.SIGKILL) {
		return fmt.Errorf("logger %s exited with status %d before it was ready", l.path, exit.Status)
	}
	return fmt.Errorf("logger %s closed descriptor 5 without the byte that binary-v2 asks for", l.path)
}

// stop waits for the logger to finish, and ends it if it does not. The writers
// should be gone, so that it sees the end of its input and can flush; one that
// does not look at that is asked with SIGTERM, and one that ignores it is killed.
func (l *logger) stop() error {
	if l == nil || within(l.proc.Done(), l.limits.finish) {
		return nil
	}
	if err := l.proc.Signal(unix.SIGTERM); err == nil && within(l.proc.Done(), l.limits.terminate) {
		return nil
	}
	if err := l.kill(); err != nil {
		return err
	}
	return fmt.Errorf("logger %s ignored SIGTERM for %s and was killed", l.path, l.limits.terminate)
}

// loggerKillTimeout bounds the wait for a killed logger: one in an
// uninterruptible sleep must not hold up its container.
const loggerKillTimeout = 2 * time.Second

func (l *logger) kill() error {
	_ = l.proc.Signal(unix.SIGKILL) // not found: it is done
	if !within(l.proc.Done(), loggerKillTimeout) {
		return fmt.Errorf("logger %s (pid %d) does not die", l.path, l.proc.Pid())
	}
	return nil
}
