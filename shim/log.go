// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// logChunk is PIPE_BUF of linux/limits.h: up to there a write to a FIFO is
// done as a whole or not at all (pipe(7)).
const logChunk = 4096

// logFIFO writes to the FIFO in the bundle that containerd copies to its own
// log. It never waits for containerd: what does not fit is dropped, and how
// much that was is said as soon as something fits again. It is open for
// reading too, so that it stays usable while no containerd has it open, and
// what was written meanwhile is found by the next one.
type logFIFO struct {
	mu      sync.Mutex // not held while a write can wait: none can
	fd      int        // -1 once closed
	dropped uint64     // bytes since the last notice
	bundle  string     // where the FIFO is
}

// openLogFD returns fs.ErrNotExist if the bundle has no log.
func openLogFD(bundle string) (int, error) {
	path := filepath.Join(bundle, "log")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, fmt.Errorf("open the log: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("open the log: %s is not a FIFO: %w", path, fs.ErrNotExist)
	}
	return fd, nil
}

func openLog(bundle string) (*logFIFO, error) {
	fd, err := openLogFD(bundle)
	if err != nil {
		return nil, err
	}
	return &logFIFO{fd: fd, bundle: bundle}, nil
}

// follow has the log go to the FIFO of one of these bundles, if it is not that of
// one already and one has any: containerd reads it no longer than the container
// is there. What the Go runtime says of a crash goes there too, if it went to the
// log until now.
func (l *logFIFO) follow(bundles []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 || slices.Contains(bundles, l.bundle) && l.inUseLocked() {
		return
	}
	for _, bundle := range bundles {
		fd, err := openLogFD(bundle)
		if err != nil {
			continue // a member of a pod has none of its own
		}
		if sameFile(l.fd, stderrFD) {
			_ = unix.Dup3(fd, stderrFD, 0)
		}
		// In place of the other, so that waitWritable has the number of neither.
		_ = unix.Dup3(fd, l.fd, unix.O_CLOEXEC)
		_ = unix.Close(fd)
		l.bundle = bundle
		return
	}
}

// inUseLocked is false once another container has a bundle of the same name.
func (l *logFIFO) inUseLocked() bool {
	var x, y unix.Stat_t
	return unix.Fstat(l.fd, &x) == nil && unix.Lstat(filepath.Join(l.bundle, "log"), &y) == nil && x.Ino == y.Ino && x.Dev == y.Dev
}

// stderrFD is where the Go runtime writes.
const stderrFD = 2

func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// Write always takes all of p, and says so.
func (l *logFIFO) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return 0, os.ErrClosed
	}
	l.noticeLocked()
	l.dropped += uint64(len(p) - l.writeLocked(p))
	return len(p), nil
}

// noticeLocked tells of what was dropped before, if that fits.
func (l *logFIFO) noticeLocked() {
	if l.dropped == 0 {
		return
	}
	notice := fmt.Appendf(nil, "time=%q level=warning msg=\"containerd did not read the log: %d bytes were dropped\"\n",
		time.Now().UTC().Format(time.RFC3339), l.dropped)
	if l.writeLocked(notice) == len(notice) {
		l.dropped = 0
	}
}

// writeLocked returns how much was written before the FIFO was full.
func (l *logFIFO) writeLocked(p []byte) int {
	written := 0
	for written < len(p) {
		n, err := unix.Write(l.fd, p[written:min(written+logChunk, len(p))])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			break
		}
		written += n
	}
	return written
}

// waitWritable waits, bounded, until a chunk fits.
func (l *logFIFO) waitWritable(limit time.Duration) {
	l.mu.Lock()
	fd := l.fd
	l.mu.Unlock()
	if fd < 0 {
		return
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, _ = unix.Poll(poll, int(limit.Milliseconds()))
}

// Close must come after the last use of waitWritable.
func (l *logFIFO) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return nil
	}
	fd := l.fd
	l.fd = -1
	return unix.Close(fd)
}
