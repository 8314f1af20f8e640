// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"berth/process"

	"github.com/containerd/errdefs"
)

// undoTimeout bounds the undoing of a half-done call, which runs on a context of its own. A
// forced delete takes runc some tens of milliseconds; containerd gives a shim's clean-up 5 s.
const undoTimeout = 5 * time.Second

// Create makes a container whose init waits for Start, or restores one whose init runs. On
// an error nothing of it is left. That of a restore is explained as Checkpoint's is, the log
// being restore.log in WorkPath or criu-restore.log in the bundle.
func (c *CLI) Create(ctx context.Context, r *CreateRequest) (*process.Process, error) {
	if r.Restore == nil {
		return c.create(ctx, r)
	}
	criu := r.Restore.CRIU
	work, err := criu.openWork(r.Bundle, "restore.log")
	if err != nil {
		return nil, err
	}
	defer work.close()
	req := *r
	req.Restore = &RestoreRequest{CRIU: criu}
	p, err := c.create(ctx, &req)
	return p, work.explain(err)
}

func (c *CLI) create(ctx context.Context, r *CreateRequest) (*process.Process, error) {
	pidFile := r.PidFile
	if pidFile == "" {
		pidFile = filepath.Join(r.Bundle, "init.pid")
	}
	if err := removeStale(pidFile); err != nil {
		return nil, err
	}
	// What another call made is not ours to undo.
	_, err := os.Lstat(filepath.Join(c.Root, r.ID))
	undo := errors.Is(err, fs.ErrNotExist)
	if err := r.IsReady(); err != nil {
		return nil, err
	}

	// The hold is released last: as long as it is open, what re-parented to us and died is a
	// zombie, and its pid cannot be another process's.
	hold := c.Supervisor.Hold()
	defer hold.Release()
	run := r.call(pidFile)
	if _, err = c.run(ctx, run); err == nil {
		var pid int
		if pid, err = readPid(pidFile); err == nil {
			var p *process.Process
			if p, err = hold.Adopt(pid); err == nil {
				return p, nil
			}
		}
	}
	if undo {
		err = errors.Join(err, killLost(hold, pidFile, run.stdio), c.undoCreate(ctx, r))
	}
	return nil, err
}

// undoCreate removes what a failed create has left of its state and its cgroups. A runtime
// that failed by itself has cleaned up, mostly; one that was killed could not.
func (c *CLI) undoCreate(ctx context.Context, r *CreateRequest) error {
	if _, err := os.Lstat(filepath.Join(c.Root, r.ID)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	undo := call{verb: "delete", args: []string{"--force", r.ID}, dir: r.Bundle}
	if _, err := c.run(ctx, &undo); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("undo create: %w", err)
	}
	return nil
}

// call is the runtime's create or restore. The pid file is the last thing that it writes.
func (r *CreateRequest) call(pidFile string) *call {
	out := &call{verb: "create", dir: r.Bundle}
	if r.Restore != nil {
		// --no-subreaper: the init must re-parent to the shim and not to the runtime.
		criu := r.Restore.CRIU
		criu.ParentPath = "" // runc's restore has no such flag
		out.verb = "restore"
		out.args = append(criu.args(), "--detach", "--no-subreaper")
	}
	out.args = append(out.args, "--bundle", r.Bundle, "--pid-file", pidFile)
	out.attach(r.Streams)
	if r.NoPivotRoot {
		out.args = append(out.args, "--no-pivot")
	}
	if r.NoNewKeyring && r.Restore == nil {
		out.args = append(out.args, "--no-new-keyring")
	}
	out.args = append(out.args, r.ID)
	return out
}

// attach gives the call the container's stdio, to pass on, or the socket that a terminal is
// to be sent to.
func (r *call) attach(s Stdio) {
	if s == nil {
		r.stdio = make([]*os.File, 3) // /dev/null: a captured stderr would go to the container
		return
	}
	if socket := s.ConsoleSocket(); socket != "" {
		r.args = append(r.args, "--console-socket", socket)
		return
	}
	r.stdio = s.Files()
}
