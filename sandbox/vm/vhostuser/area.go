// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// queues are virtiofs's: one for what must not wait, and one for the rest.
	queues = 2
	// slots are the requests that virtiofsd has at a time, of one queue. It does
	// one after the other.
	slots = 8
	// half is what a request has place for, and its answer: the 1 MiB that FUSE
	// carries at most (FUSE_MAX_MAX_PAGES), and its headers. Memory is only taken
	// where something was.
	half = 1<<20 + 8<<10

	page      = 4 << 10
	share     = page + slots*2*half // of one queue
	entries   = 2 * slots           // descriptors: a request and its answer
	offAvail  = 1 << 10
	offUsed   = 2 << 10
	areaSize  = queues * share
	areaGuest = 1 << 32 // where virtiofsd's guest would have it
)

// area is what virtiofsd takes for its guest's memory: for each queue a ring,
// and places for requests.
type area struct {
	file *os.File
	data []byte
}

func newArea() (*area, error) {
	fd, err := unix.MemfdCreate("berth-relay", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory for requests: %w", err)
	}
	a := &area{file: os.NewFile(uintptr(fd), "relay")}
	if err = a.file.Truncate(areaSize); err == nil {
		// Where virtiofsd could shorten it, reading it would be the end of this process.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err == nil {
		a.data, err = unix.Mmap(fd, 0, areaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		_ = a.file.Close()
		return nil, fmt.Errorf("make memory for requests: %w", err)
	}
	return a, nil
}

func (a *area) close() {
	_ = unix.Munmap(a.data)
	_ = a.file.Close()
}

// desk is a queue's share of the area.
type desk struct {
	base uint64 // in the area
	data []byte
	free []int // slots
	put  uint16
	seen uint16 // of those that came back
}

func (a *area) desk(i int) *desk {
	d := &desk{base: uint64(i * share), data: a.data[i*share : (i+1)*share]}
	for s := range slots {
		d.free = append(d.free, slots-1-s) // the last is taken first, and again
	}
	return d
}

// out and in are the places of a slot.
func (d *desk) out(slot int) []byte { return d.data[page+slot*2*half:][:half] }
func (d *desk) in(slot int) []byte  { return d.data[page+slot*2*half+half:][:half] }

// hand makes a slot a request, for virtiofsd to take.
func (d *desk) hand(slot int, c *chain) {
	at := areaGuest + d.base + page + uint64(slot)*2*half
	le := binary.LittleEndian
	write := func(i int, address uint64, length int, flags uint16) {
		b := d.data[i*descriptorSize:]
		le.PutUint64(b, address)
		le.PutUint32(b[8:], uint32(length))
		le.PutUint16(b[12:], flags)
		le.PutUint16(b[14:], uint16(i+1))
	}
	var flags uint16
	if c.inSize > 0 {
		flags = flagNext
		write(2*slot+1, at+half, c.inSize, flagWrite)
	}
	write(2*slot, at, c.outSize, flags)
	le.PutUint16(d.data[offAvail+4+2*(int(d.put)%entries):], uint16(2*slot))
	d.put++
	atomic.StoreUint32(d.word(offAvail), uint32(d.put)<<16) // no flags, and the index
}

// back is a request that virtiofsd is done with, if there is one.
func (d *desk) back() (slot int, length uint32, ok bool, _ error) {
	if uint16(atomic.LoadUint32(d.word(offUsed))>>16) == d.seen {
		return 0, 0, false, nil
	}
	b := d.data[offUsed+4+8*(int(d.seen)%entries):]
	head, length := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	d.seen++
	if head >= entries || head%2 != 0 {
		return 0, 0, false, fmt.Errorf("virtiofsd gives back descriptor %d", head)
	}
	return int(head / 2), length, true, nil
}

// word is flags and index of a ring of the area: both are written at once, and
// seen after what was written before.
func (d *desk) word(offset int) *uint32 { return (*uint32)(unsafe.Pointer(&d.data[offset])) }
