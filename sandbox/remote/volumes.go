// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// volumes watches the volumes of one guest that are changed at their ..data,
// and has the guest change its copies. It is ready to use; close ends it.
type volumes struct {
	look chan struct{} // capacity 1: something may have changed
	stop chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	inotify *os.File // nil before the first volume, or without one
	closed  bool
	watched []*watched
}

func newVolumes() *volumes {
	return &volumes{look: make(chan struct{}, 1), stop: make(chan struct{})}
}

// add watches those volumes among a container's binds that can be, and says what
// the guest is to copy. The others stay in the share, where a change is seen by
// whoever looks.
func (v *volumes) add(r *guest, container string, binds []bind) (copies []*agentapi.Volume) {
	for _, b := range binds {
		if !b.isWritten() {
			continue
		}
		w, err := v.watch(r, container, b)
		if err != nil {
			log.L.WithError(err).WithField("volume", b.source).Warn("its changes will not be told by inotify in the VM")
			continue
		}
		copies = append(copies, &agentapi.Volume{Name: w.name, Data: w.told})
	}
	return copies
}

func (v *volumes) watch(r *guest, container string, b bind) (_ *watched, retErr error) {
	dir, err := os.OpenFile(b.source, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	w := &watched{container: container, name: b.name, dir: dir}
	defer func() {
		if retErr != nil {
			_ = dir.Close()
		}
	}()
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.openLocked(r); err != nil {
		return nil, err
	}
	// The watch comes first: a change after the look is then heard of.
	err = control(v.inotify, func(fd int) (err error) {
		w.wd, err = unix.InotifyAddWatch(fd, procPath(dir), unix.IN_MOVED_TO|unix.IN_ONLYDIR)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch the volume: %w", err)
	}
	if w.told, err = w.data(); err != nil {
		v.unwatchLocked(w)
		return nil, err
	}
	v.watched = append(v.watched, w)
	return w, nil
}

// openLocked begins to listen. There may be no inotify instance to be had: root
// has 128 (fs.inotify.max_user_instances).
func (v *volumes) openLocked(r *guest) error {
	if v.closed {
		return r.ended()
	}
	if v.inotify != nil {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("make an inotify instance: %w", err)
	}
	v.inotify = os.NewFile(uintptr(fd), "inotify")
	v.work.Go(func() { v.listen(v.inotify) })
	v.work.Go(func() { v.follow(r) })
	return nil
}

// listen takes events until the instance is closed. Which they are is not asked:
// a look at a few links costs no more.
func (v *volumes) listen(inotify *os.File) {
	events := make([]byte, 4<<10)
	for {
		if _, err := inotify.Read(events); err != nil {
			return
		}
		v.lookAgain()
	}
}

func (v *volumes) lookAgain() {
	select {
	case v.look <- struct{}{}:
	default: // it will be looked
	}
}

// follow tells the guest of what has changed.
func (v *volumes) follow(r *guest) {
	for {
		select {
		case <-v.look:
		case <-v.stop:
			return
		}
		v.mu.Lock()
		all := slices.DeleteFunc(slices.Clone(v.watched), func(w *watched) bool { return !w.ready })
		v.mu.Unlock()
		for _, w := range all {
			if err := w.refresh(r); err != nil && !r.isDead() {
				log.L.WithError(err).WithField("container", w.container).Warn("the VM does not follow the change of a volume")
			}
		}
	}
}

// made is called when the guest has a container: it can follow from now on.
func (v *volumes) made(container string) {
	v.mu.Lock()
	for _, w := range v.watched {
		w.ready = w.ready || w.container == container
	}
	v.mu.Unlock()
	v.lookAgain()
}

// remove ends what add began.
func (v *volumes) remove(container string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var gone []*watched
	v.watched = slices.DeleteFunc(v.watched, func(w *watched) bool {
		if w.container == container {
			gone = append(gone, w)
		}
		return w.container == container
	})
	for _, w := range gone {
		v.unwatchLocked(w)
		_ = w.dir.Close()
	}
}

// unwatchLocked removes a watch that no other volume has as well.
func (v *volumes) unwatchLocked(w *watched) {
	if !slices.ContainsFunc(v.watched, func(o *watched) bool { return o.wd == w.wd }) {
		_ = control(v.inotify, func(fd int) error { // a volume that was removed has taken it along
			_, err := unix.InotifyRmWatch(fd, uint32(w.wd))
			return err
		})
	}
}

// close ends it all.
func (v *volumes) close() {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return
	}
	v.closed = true
	close(v.stop)
	if v.inotify != nil {
		_ = v.inotify.Close()
	}
	all := v.watched
	v.watched = nil
	v.mu.Unlock()
	v.work.Wait() // the calls to a guest that has ended return
	for _, w := range all {
		_ = w.dir.Close()
	}
}
