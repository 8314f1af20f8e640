// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/cgroup"
)

// Names of NVIDIA's, and of ours in the pod's file system. The daemon sees that
// as /tmp: its sockets have short names, wherever Berth keeps it.
const (
	pipeName, logName = "nvidia-mps", "nvidia-log"
	pidFile           = "nvidia-cuda-mps-control.pid"
	privileged        = "control_privileged" // takes the commands that set limits
	startLog          = "start.log"
)

// start makes all that a daemon needs, runs it, and sets its limits. It returns
// when clients may come. The caller undoes it.
func (p *pod) start(ctx context.Context, r Request) (*process.Process, error) {
	path, err := cgroup.Beside(r.CgroupsPath, "berth-mps-"+filepath.Base(p.path))
	if err != nil {
		return nil, fmt.Errorf("place the cgroup of an MPS daemon: %w", err)
	}
	if p.rec.Cgroup, err = cgroup.Place(path); err != nil {
		return nil, fmt.Errorf("place the cgroup of an MPS daemon: %w", err)
	}
	if err := p.rec.write(p.path); err != nil { // before anything is made
		return nil, err
	}
	loc, join, err := cgroup.Make(path)
	if err != nil {
		return nil, fmt.Errorf("make the cgroup of an MPS daemon: %w", err)
	}
	p.rec.Cgroup = loc // on record with the daemon
	if err := p.mount(); err != nil {
		return nil, err
	}
	daemon, err := p.run(ctx, r, join)
	if err != nil {
		return nil, err
	}
	if err := p.limit(ctx, r); err != nil {
		return nil, fmt.Errorf("set the limits of the MPS daemon: %w%s", err, p.said())
	}
	p.rec.Files, err = files(p.fs(pipeName))
	return daemon, err
}

// mount gives the pod a file system in memory, with the directories in it. What
// is in there is charged to whoever puts it there, as all of a tmpfs is.
func (p *pod) mount() error {
	if err := os.Mkdir(p.fs(), 0o711); err != nil {
		return fmt.Errorf("make the directory of an MPS daemon: %w", err)
	}
	if err := unix.Mount("berth-mps", p.fs(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0711"); err != nil {
		return fmt.Errorf("mount the memory of an MPS daemon: %w", err)
	}
	for _, dir := range []string{pipeName, logName, "shm"} {
		// The server runs as the client's user.
		if err := errors.Join(os.Mkdir(p.fs(dir), 0o700), os.Chmod(p.fs(dir), fs.ModeSticky|0o777)); err != nil {
			return fmt.Errorf("make the directories of an MPS daemon: %w", err)
		}
	}
	return nil
}

// run starts the daemon. With -d the program ends once its child, the daemon,
// takes connections; the child is then ours, and has written down its pid, where
// no container was yet.
func (p *pod) run(ctx context.Context, r Request, join []string) (*process.Process, error) {
	log, err := os.OpenFile(p.fs(logName, startLog), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	args := []string{r.Control, "-d"}
	if p.Multiuser {
		args = append(args, "-multiuser-server")
	}
	hold := p.Supervisor.Hold()
	defer hold.Release()
	starter, err := p.Supervisor.Start(&process.Command{
		Path: p.Helper, Args: slices.Concat(p.view(), prefixed("--join", join), []string{"--oom-score-adj", strconv.Itoa(r.OOMScoreAdj)}, args),
		Env: p.env(), Files: []*os.File{nil, log, log}, DieWithParent: true,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: install berth-gpu beside the shim, or name it by helper in the configuration: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err := end(ctx, starter); err != nil {
		return nil, fmt.Errorf("start the MPS daemon: %w%s", err, p.said())
	}
	if exit := starter.Exit(); exit.Status != 0 {
		return nil, fmt.Errorf("%s -d ended with status %d%s: %w", r.Control, exit.Status, p.said(), errdefs.ErrFailedPrecondition)
	}
	return p.adopt(hold)
}

// adopt takes the daemon over by the pid that it has written.
func (p *pod) adopt(hold *process.Hold) (*process.Process, error) {
	text, err := os.ReadFile(p.fs(pipeName, pidFile))
	if err != nil {
		return nil, fmt.Errorf("the MPS daemon does not say its pid: %w%s", err, p.said())
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return nil, fmt.Errorf("the MPS daemon says that its pid is %.20q", text)
	}
	daemon, err := hold.Adopt(pid)
	if err != nil {
		return nil, err
	}
	if p.rec.Daemon, err = processOf(pid); err != nil {
		return nil, fmt.Errorf("the MPS daemon has ended already%s: %w", p.said(), errdefs.ErrFailedPrecondition)
	}
	cg, err := cgroup.Load(p.rec.Cgroup)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cg.Close() }()
	if pids, err := cg.Pids(); err != nil || !slices.Contains(pids, pid) {
		return nil, errors.Join(fmt.Errorf("the MPS daemon says that its pid is %d, which is not in its cgroup", pid), err)
	}
	return daemon, p.rec.write(p.path)
}

// view are the helper's arguments before those of the program.
func (p *pod) view() []string {
	return []string{"mps", "--driver-root", p.DriverRoot, "--dev", p.DevRoot, "--dir", p.fs()}
}

// env is the whole environment of the daemon, and of those who talk to it.
func (p *pod) env() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"CUDA_MPS_PIPE_DIRECTORY=/tmp/" + pipeName,
		"CUDA_MPS_LOG_DIRECTORY=/tmp/" + logName,
		"CUDA_VISIBLE_DEVICES=" + strings.Join(p.rec.Devices, ","),
	}
}

func prefixed(flag string, values []string) (out []string) {
	for _, v := range values {
		out = append(out, flag, v)
	}
	return out
}

// maxSaid bounds what an error quotes of the daemon's logs, in bytes.
const maxSaid = 400

// said is the end of what the daemon and its starter have written.
func (p *pod) said() string {
	var out string
	for _, name := range []string{startLog, "control.log"} {
		text, _ := os.ReadFile(p.fs(logName, name))
		if len(text) > maxSaid {
			text = text[len(text)-maxSaid:]
		}
		if s := strings.TrimSpace(string(text)); s != "" {
			out += fmt.Sprintf("; %s: %.*q", name, 2*maxSaid, s)
		}
	}
	return out
}
