// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// kmsgBuffer has room for the longest record, in bytes: CONSOLE_EXT_LOG_MAX of
// older kernels; newer ones have less. A read with less room than the record
// needs would skip it (Documentation/ABI/testing/dev-kmsg).
const kmsgBuffer = 8 << 10

// Kmsg reads Xids from the kernel's log as they are written.
//
// The descriptor is in the runtime's poller (the log can be polled), so that
// waiting takes neither a thread nor a wake-up, and ending it is a deadline.
type Kmsg struct {
	f    *os.File
	path string
}

// OpenKmsg opens the kernel's log at its end: what was written before counts
// for nothing. Other readers of the log lose nothing by it.
func OpenKmsg(path string) (*Kmsg, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("open the kernel's log for Xid messages: it needs CAP_SYSLOG; give it, or set kmsg to nothing in the configuration: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the kernel's log for Xid messages: %w", err)
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil && !errors.Is(err, unix.ESPIPE) {
		return nil, errors.Join(fmt.Errorf("seek to the end of %s: %w", path, err), f.Close())
	}
	return &Kmsg{f: f, path: path}, nil
}

// Run calls report for each Xid, one at a time, until ctx ends (it then
// returns nil) or the log does. It may be called once, and closes the log.
func (k *Kmsg) Run(ctx context.Context, report func(Xid)) error {
	defer func() { _ = k.f.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = k.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, kmsgBuffer)
	for ctx.Err() == nil {
		n, err := k.f.Read(buf)
		switch {
		case err == nil:
			if x, ok := ParseXid(buf[:n]); ok {
				x.At = time.Now()
				report(x)
			}
		case ctx.Err() != nil:
		case errors.Is(err, unix.EPIPE): // the next read finds the oldest record that is left
			log.L.WithError(err).Warn("the kernel's log has overwritten what was not read yet: Xid messages may have been missed")
		default:
			return fmt.Errorf("read the kernel's log for Xid messages: %w", err)
		}
	}
	return nil
}

// Close ends a Kmsg that is not run.
func (k *Kmsg) Close() error { return k.f.Close() }
