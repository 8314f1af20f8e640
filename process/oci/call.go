// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"berth/process"

	"golang.org/x/sys/unix"
)

// killTimeout bounds the wait for a runtime that was sent SIGKILL. Only one in an
// uninterruptible sleep takes longer; the supervisor reaps it whenever it ends.
const killTimeout = 2 * time.Second

// call is one run of the runtime.
type call struct {
	verb  string
	args  []string   // what follows the verb
	dir   string     // working directory, and where the log is kept; "" means CLI.Dir
	stdin []byte     // what fd 0 has to offer; unused when stdio is set
	stdio []*os.File // fds 0, 1 and 2; nil to have stdout and stderr captured
}

// run runs the runtime to its end and returns what it wrote to stdout, unless stdio is set.
// When ctx ends first, the runtime is gone by the time run returns.
func (c *CLI) run(ctx context.Context, r *call) (stdout []byte, retErr error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("OCI runtime %s was not begun: %w", r.verb, err)
	}
	dir := r.dir
	if dir == "" {
		dir = c.Dir
	}
	log, err := newCallLog(dir, r.verb)
	if err != nil {
		return nil, err
	}
	defer log.remove()
	io, err := r.openStdio()
	if err != nil {
		return nil, err
	}
	defer io.close()

	began := time.Now()
	p, err := c.Supervisor.Start(&process.Command{
		Path:          c.Binary,
		Args:          c.argv(log.path, r),
		Env:           c.env(r.verb),
		Dir:           dir,
		Files:         io.files,
		DieWithParent: true,
	})
	if err != nil {
		return nil, fmt.Errorf("OCI runtime %s: %w", r.verb, err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		err := fmt.Errorf("OCI runtime %s was killed after %v: %w",
			r.verb, time.Since(began).Round(time.Millisecond), context.Cause(ctx))
		return nil, errors.Join(err, killTree(p))
	}
	if exit := p.Exit(); exit.Status != 0 || !exit.Known {
		return nil, runtimeError(r.verb, log, io.captured(2), exit)
	}
	return io.captured(1), nil
}

func (c *CLI) argv(log string, r *call) []string {
	var argv []string
	if c.Root != "" {
		argv = append(argv, "--root", c.Root)
	}
	if log != "" {
		argv = append(argv, "--log", log, "--log-format", "json")
	}
	if c.SystemdCgroup {
		argv = append(argv, "--systemd-cgroup")
	}
	return append(append(argv, r.verb), r.args...)
}

func (c *CLI) env(verb string) []string {
	if c.Env != nil {
		return c.Env
	}
	env := []string{"PATH=" + DefaultPath}
	switch verb {
	case "create", "restore", "start", "delete": // these run hooks, which inherit it if they name none
		return env
	}
	// runc does one thing after the other; with one processor it starts fewer threads, and an
	// exec takes 4 % less time and 15 % less CPU (runc 1.5.2, Go 1.26, 2 CPUs).
	return append(env, "GOMAXPROCS=1")
}

// killTree kills the runtime together with the helpers that it is waiting for (hooks, criu,
// the half-made init), which would otherwise go on without it.
func killTree(p *process.Process) error {
	// Stopped first, so that it makes no more children while they are looked up.
	_ = p.Signal(unix.SIGSTOP)
	var fds []int
	for _, pid := range descendants(p.Pid()) {
		// The parents are alive or unreaped, so the numbers are still theirs.
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			fds = append(fds, fd)
		}
	}
	_ = p.Signal(unix.SIGKILL)
	for _, fd := range fds {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_ = unix.Close(fd)
	}
	timeout := time.NewTimer(killTimeout)
	defer timeout.Stop()
	select {
	case <-p.Done():
		return nil
	case <-timeout.C:
		return fmt.Errorf("process %d does not end after SIGKILL", p.Pid())
	}
}
