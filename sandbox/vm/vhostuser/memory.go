// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// errGone is that QEMU has no memory any more: it has ended, which others tell.
var errGone = errors.New("the monitor has ended")

// region is a piece of the guest's memory, as QEMU names it.
type region struct {
	Guest, Size, Monitor uint64
	Offset               uint64 // in a file, which is not used
}

// memory is the guest's, by QEMU's.
type memory struct {
	// file is /proc/PID/mem, which is bound to what QEMU's address space was
	// when it was opened (proc_pid_mem(5)), and to no other process ever.
	file    *os.File
	regions []region
}

// span is a piece of QEMU's address space.
type span struct {
	at     uint64
	length int
}

// find is where QEMU has a piece of the guest's memory.
func (m *memory) find(guest uint64, length uint32) (span, error) {
	for _, r := range m.regions {
		if guest >= r.Guest && guest-r.Guest <= r.Size && uint64(length) <= r.Size-(guest-r.Guest) {
			return span{r.Monitor + (guest - r.Guest), int(length)}, nil
		}
	}
	return span{}, fmt.Errorf("a descriptor of %d bytes at %#x, where the guest has no memory", length, guest)
}

func (m *memory) read(to []byte, at uint64) error {
	n, err := m.file.ReadAt(to, int64(at))
	return m.check("read", n, len(to), at, err)
}

func (m *memory) write(from []byte, at uint64) error {
	n, err := m.file.WriteAt(from, int64(at))
	return m.check("write", n, len(from), at, err)
}

// check tells the end of QEMU, of which nothing is left to be read, from an
// address at which it has nothing.
func (m *memory) check(what string, n, want int, at uint64, err error) error {
	switch {
	case n == want:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ESRCH), err == nil:
		return errGone
	}
	return fmt.Errorf("%s %d bytes of the monitor's memory at %#x: %w", what, want, at, err)
}
