// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process/cgroup"
)

const (
	// stopTimeout bounds a stop, quitTimeout the part of it in which the daemon
	// may end by itself. Its clients are dead, so it has nothing to wait for.
	// containerd gives `shim delete` 5 s, and MIG devices are to be destroyed
	// after this.
	stopTimeout = 3 * time.Second
	quitTimeout = time.Second
)

// Leave takes a container, whose processes are dead, from its pod's daemon, and
// stops that with the last one. It may be called again, and for one that never
// joined. control is the daemon's program, as in Request. What could not be
// undone is left to a Sweep.
func (h *Host) Leave(ctx context.Context, o Owner, id, control string) error {
	ctx, cancel := bounded(ctx, stopTimeout)
	defer cancel()
	p, err := h.lockPod(ctx, o.key(), false, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.unlock()
	if p.rec != nil {
		p.rec.Members = p.rec.others(id)
		if len(p.rec.Members) > 0 {
			return p.rec.write(p.path)
		}
		p.quit(ctx, control)
	}
	return p.stop(ctx)
}

// quit asks the daemon to end, and waits for it. If it does not, it is killed
// afterwards, as are its servers.
func (p *pod) quit(ctx context.Context, control string) {
	ctx, cancel := context.WithTimeout(ctx, quitTimeout)
	defer cancel()
	p.rec.State = Stopping // whoever sees it end knows why
	if p.rec.write(p.path) != nil || control == "" || !p.rec.Alive() {
		return
	}
	// Who asks is root, and opens files by the names in the directory that the
	// containers had.
	if now, err := files(p.fs(pipeName)); err != nil || !slices.Equal(now, p.rec.Files) {
		return
	}
	if _, err := p.tell(ctx, control, "quit"); err == nil {
		_ = p.rec.Daemon.wait(ctx)
	}
}

// stop kills all that is left of a daemon, and removes what there was of it,
// the directory last. Every step may be done again.
func (p *pod) stop(ctx context.Context) error {
	ctx, cancel := bounded(ctx, stopTimeout)
	defer cancel()
	if p.rec != nil && p.rec.hidden() { // a cgroup's processes have no pids here
		return fmt.Errorf("stop the MPS daemon of %s: it is in another pid namespace than this process; do it there: %w", p.rec.Owner, errdefs.ErrFailedPrecondition)
	}
	if p.rec != nil {
		p.rec.State, p.rec.Members = Stopping, nil
		_ = p.rec.write(p.path) // on a full disk the record of before does as well
		if err := kill(ctx, p.rec.Cgroup); err != nil {
			return fmt.Errorf("stop the MPS daemon of %s: %w", p.rec.Owner, err)
		}
	}
	if err := unix.Unmount(p.fs(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !isGone(err) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount the memory of an MPS daemon: %w", err)
	}
	for _, path := range []string{p.fs(), p.path + "/.new", p.path + "/" + recordName, p.path} {
		if err := os.Remove(path); err != nil && !isGone(err) {
			return fmt.Errorf("remove what an MPS daemon left: %w", err)
		}
	}
	return nil
}

// kill kills and removes what is in the daemon's cgroup: itself, and servers.
func kill(ctx context.Context, loc cgroup.Location) error {
	if len(loc.Dirs) == 0 {
		return nil // it never got so far
	}
	cg, err := cgroup.Load(loc)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(cg.Kill(ctx), cg.Remove(ctx), cg.Close())
}

// wait waits for the end of a process that need not be a child.
func (p Process) wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return ignore(err, unix.ESRCH)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = f.Close() }()
	if !p.alive() { // what the descriptor holds is another
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
}

// file is one of the daemon's in the directory that its clients have.
type file struct {
	Name  string      `json:"name"`
	Mode  fs.FileMode `json:"mode"` // the type alone
	Inode uint64      `json:"inode"`
}

// files are all that there is in a directory, sorted.
func files(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []file
	for _, e := range entries {
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/"+e.Name(), &st); err != nil {
			return nil, err
		}
		out = append(out, file{Name: e.Name(), Mode: e.Type(), Inode: st.Ino})
	}
	return out, nil
}
