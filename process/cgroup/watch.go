// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// recheckFirst and recheckTotal bound the re-readings after a v1 notification.
// The kernel signals the eventfd when it enters the OOM state and raises
// oom_kill only when it has picked a victim, after it may have printed a report
// to a slow console; there is no second notification. The delay doubles from
// the first to the total, so that one event costs about a dozen short reads.
const (
	recheckFirst = time.Millisecond
	recheckTotal = 4 * time.Second
)

// OOMWatch tells about OOM kills of one cgroup until it is closed. While idle
// it is a goroutine parked in the runtime's poller, not a thread.
type OOMWatch struct {
	cgroup *Cgroup
	events *os.File // eventfd (v1) or inotify (v2)
	notify func(kills uint64)
	seen   uint64 // the counter that notify was last told; the goroutine's own
	series bool   // an event may precede the counter's rise (v1)
	done   chan struct{}
}

// WatchOOM calls notify, from one goroutine, with the number of OOM kills each
// time it has risen; kills since the cgroup was opened are told first. notify
// must not call Close. The Cgroup must not be closed before the watch. On v1 the
// watch ends by itself when the cgroup has been removed; on v2 the kernel tells
// nobody of that (seen on Linux 6.1: no IN_DELETE_SELF for a file of kernfs), so
// it may stay parked. It must be closed in either case.
//
// The notification is memory.oom_control's eventfd on v1 (cgroup-v1/memory.rst,
// section 10) and inotify of memory.events on v2 (cgroup-v2.rst: a change of a
// value generates a file modified event). On v2 cgroup.events is watched too:
// when the last process has died the counters are read once more, as systemd
// may remove the cgroup at once. The error is errdefs.ErrNotImplemented without
// a memory controller. A panic, of notify too, ends the watch and is logged.
func (c *Cgroup) WatchOOM(notify func(kills uint64)) (*OOMWatch, error) {
	if !c.acquire() {
		return nil, errClosed("watch OOM")
	}
	defer c.release()
	if c.oomFile() < 0 {
		return nil, fmt.Errorf("watch OOM: cgroup has no memory controller here: %w", errdefs.ErrNotImplemented)
	}
	w := &OOMWatch{cgroup: c, notify: notify, seen: c.opened, done: make(chan struct{})}
	var err error
	if c.loc.Version == V2 {
		w.events, err = c.watchFiles("memory.events", "cgroup.events")
	} else {
		w.series = true
		w.events, err = c.oomEventfd()
	}
	if err != nil {
		return nil, fmt.Errorf("watch OOM: %w", err)
	}
	go w.run()
	return w, nil
}

// Close ends the watch and waits until notify is not running and will not be.
func (w *OOMWatch) Close() error {
	err := w.events.Close()
	<-w.done
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func (w *OOMWatch) run() {
	defer close(w.done)
	defer func() { // whoever holds the cgroup has other containers, and reads the counter at each exit
		if v := recover(); v != nil {
			log.L.Errorf("panic, and OOM kills are watched no more: %v\n%s", v, debug.Stack())
		}
	}()
	buf := make([]byte, 512) // several inotify events, or one eventfd count
	if w.check() {
		return // removed already
	}
	delay := time.Duration(0) // until the next re-reading; 0 outside a series
	for {
		var deadline time.Time
		if delay > 0 {
			deadline = time.Now().Add(delay)
		}
		if err := w.events.SetReadDeadline(deadline); err != nil {
			return
		}
		_, err := w.events.Read(buf)
		switch {
		case err == nil && w.series:
			delay = recheckFirst
		case errors.Is(err, os.ErrDeadlineExceeded):
			if delay *= 2; delay > recheckTotal/2 {
				delay = 0
			}
		case err != nil:
			return // closed
		}
		if w.check() {
			return
		}
	}
}

// check reads the counter, tells a rise, and reports whether the cgroup is gone.
func (w *OOMWatch) check() (gone bool) {
	counts, gone := w.cgroup.current()
	if counts.oomKill > w.seen {
		w.seen = counts.oomKill
		w.notify(w.seen)
	}
	return gone
}

// oomEventfd registers an eventfd for memory.oom_control. The kernel signals it
// also when the cgroup is removed, and forgets it when it is closed.
func (c *Cgroup) oomEventfd() (_ *os.File, retErr error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	defer func() {
		if retErr != nil {
			unix.Close(fd)
		}
	}()
	line := fmt.Sprintf("%d %d", fd, c.fds[v1OOMControl])
	if err := writeIn(c.dirs["memory"], "cgroup.event_control", line); err != nil {
		return nil, fmt.Errorf("register OOM notification: %w", err)
	}
	return os.NewFile(uintptr(fd), "oom eventfd"), nil
}

// watchFiles makes an inotify descriptor that tells of changes of files in the
// unified directory.
func (c *Cgroup) watchFiles(names ...string) (_ *os.File, retErr error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make inotify descriptor: %w", err)
	}
	defer func() {
		if retErr != nil {
			unix.Close(fd)
		}
	}()
	for _, name := range names {
		// Through the descriptor: the path may name a successor by now.
		path := fmt.Sprintf("/proc/self/fd/%d/%s", c.dirs[Unified], name)
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_DELETE_SELF); err != nil {
			return nil, fmt.Errorf("watch %s: %w", name, err)
		}
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// writeIn writes a control file of a cgroup directory in one write, as the
// kernel wants it.
func writeIn(dir int, name, text string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(text))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
