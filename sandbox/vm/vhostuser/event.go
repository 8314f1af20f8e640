// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Whoever else has an eventfd may have it block at any time, as O_NONBLOCK is one
// flag for all, and a thread that waits in a system call cannot be called back. So
// what is read is read with a flag of the call itself, and what is written, for
// which the kernel has no such flag, by somebody for whom nobody waits.

// bell is an eventfd that is written to.
type bell struct {
	file *os.File
	rung chan struct{} // capacity 1
	gone chan struct{} // closed when the file is
}

// newBell takes a file over.
func newBell(f *os.File) *bell {
	b := &bell{file: f, rung: make(chan struct{}, 1), gone: make(chan struct{})}
	go func() {
		defer close(b.gone)
		for range b.rung {
			_ = signal(f)
		}
		_ = f.Close()
	}()
	return b
}

// ring has whoever reads look, soon.
func (b *bell) ring() {
	select {
	case b.rung <- struct{}{}:
	default: // it is about to be rung
	}
}

// close lets go of the file, once what was to be written is. It does not wait.
func (b *bell) close() { close(b.rung) }

// signal writes to an eventfd. What is full has something to be read, and what is
// none is its owner's own affair.
func signal(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { _, _ = unix.Write(int(fd), one[:]) })
}

// one is what is written to an eventfd.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// await returns when an eventfd says something, and with an error once it is closed.
func await(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var b [8]byte
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		var n int
		n, failed = unix.Preadv2(int(fd), [][]byte{b[:]}, -1, unix.RWF_NOWAIT)
		if failed == nil && n != len(b) {
			failed = errors.New("no eventfd")
		}
		return !errors.Is(failed, unix.EAGAIN)
	})
	return errors.Join(err, failed)
}
