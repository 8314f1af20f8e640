// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Watch tells of changes of the ledger (inotify(7)).
type Watch struct{ events *os.File }

// NewWatch watches the GPUs that have a ledger now.
func NewWatch(run string) (*Watch, error) {
	gpus, err := GPUs(run)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the ledger: %w", err)
	}
	w := &Watch{os.NewFile(uintptr(fd), "inotify")}
	for _, busID := range gpus {
		// A record is renamed to its place, or removed; with the directory all are gone.
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(Root(run), busID), unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_DELETE_SELF); err != nil {
			return nil, errors.Join(fmt.Errorf("watch the ledger: %w", err), w.Close())
		}
	}
	return w, nil
}

// Wait returns at the next change that was not told yet, or at the time given.
func (w *Watch) Wait(until time.Time) error {
	if err := w.events.SetReadDeadline(until); err != nil {
		return err
	}
	_, err := w.events.Read(make([]byte, 64<<10))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// Close ends the watch.
func (w *Watch) Close() error { return w.events.Close() }
