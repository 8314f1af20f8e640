// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// exchange is one request of a guest.
type exchange struct {
	asked  []byte
	answer []span // in the guest's memory, from its beginning
}

// request lays out a chain of random pieces, in the ring or in a table of its own,
// from a place in the guest's memory on. It returns what was taken of that.
func (r *rig) request(random *rand.Rand, head, at, size int, own bool) (exchange, int) {
	table, first := atDesc, head
	if own {
		table, first = at, 0
		at += 64 * descriptorSize
	}
	var x exchange
	var all []descriptor
	for _, flags := range []uint16{0, flagWrite} {
		for rest, n := size, 0; rest > 0; n++ {
			piece := rest
			if n < 3 {
				piece = 1 + random.IntN(rest)
			}
			all = append(all, descriptor{Address: guestBase + uint64(at), Length: uint32(piece), Flags: flags})
			if flags == 0 {
				for i := range piece {
					r.memory[at+i] = byte(random.Uint32())
				}
				x.asked = append(x.asked, r.memory[at:at+piece]...)
			} else {
				x.answer = append(x.answer, span{uint64(at), piece})
			}
			at, rest = at+piece+random.IntN(9), rest-piece
		}
	}
	for i := range all {
		if i < len(all)-1 {
			all[i].Flags |= flagNext
			all[i].Next = uint16(first + i + 1)
		}
		r.describe(table, first+i, all[i])
	}
	if own {
		r.describe(atDesc, head, descriptor{Address: guestBase + uint64(table), Length: uint32(len(all) * descriptorSize), Flags: flagIndirect})
	}
	return x, at
}

func (r *rig) compare(x exchange) {
	r.Helper()
	var got []byte
	for _, s := range x.answer {
		got = append(got, r.memory[s.at:s.at+uint64(s.length)]...)
	}
	slices.Reverse(got)
	if !bytes.Equal(got, x.asked) {
		r.Fatalf("a request of %d bytes has another answer", len(x.asked))
	}
}

// What a guest asks arrives whole, however it is scattered, and so does the answer.
// There are more requests at a time than virtiofsd is given.
func TestRelay(t *testing.T) {
	r := newRig(t)
	random := rand.New(rand.NewPCG(1, 2))
	r.up()
	for range 40 {
		var all []exchange
		at := atBuffers
		batch := 1 + random.IntN(number/8) // each may have 8 descriptors in the ring
		for i := range batch {
			size := 1 + random.IntN(1<<(4+random.IntN(15)))
			x, next := r.request(random, i*8, at, size, random.IntN(2) == 0)
			all, at = append(all, x), next
			r.offer(uint16(i * 8))
		}
		r.used(r.next)
		for _, x := range all {
			r.compare(x)
		}
	}
	r.must(r.monitor.Close())
	r.must(<-r.served)
}

// A request without an answer, as FORGET is, comes back as well.
func TestNoAnswer(t *testing.T) {
	r := newRig(t)
	r.up()
	r.describe(atDesc, 0, descriptor{Address: guestBase + atBuffers, Length: 48})
	r.offer(0)
	r.used(1)
}

// QEMU has a queue back when all was answered, and it goes on from there.
func TestQueueIsTakenBack(t *testing.T) {
	r := newRig(t)
	random := rand.New(rand.NewPCG(3, 4))
	r.up()
	r.held.Lock()
	x, at := r.request(random, 0, atBuffers, 5000, false)
	r.offer(0)
	for { // until it is under way
		q := r.relay.queues[1]
		q.turn.Lock()
		n := q.under
		q.turn.Unlock()
		if n == 1 {
			break
		}
	}
	r.tell(getVringBase, nil, uint32(1), uint32(0))
	r.held.Unlock()
	answer, err := receive(r.monitor)
	r.must(err)
	if got := binary.NativeEndian.Uint32(answer.payload[4:]); got != 1 {
		t.Errorf("the queue is at %d, one request was made", got)
	}
	r.compare(x) // before QEMU was answered
	y, _ := r.request(random, 8, at, 100, true)
	r.offer(8) // while QEMU has the queue
	r.start(1)
	r.used(2)
	r.compare(y)
}

// The end does not wait for virtiofsd.
func TestEnd(t *testing.T) {
	r := newRig(t)
	r.up()
	r.held.Lock()
	defer r.held.Unlock()
	r.request(rand.New(rand.NewPCG(5, 6)), 0, atBuffers, 100, false)
	r.offer(0)
	r.tell(getVringBase, nil, uint32(1), uint32(0))
	r.relay.End()
	r.must(<-r.served)
}

// A guest that breaks the rules ends the relay, and nothing is touched that is not
// its own.
func TestHostileGuest(t *testing.T) {
	last := uint64(guestBase + guestSize)
	for name, c := range map[string]struct {
		offer func(r *rig)
		says  string
	}{
		"a loop": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase + atBuffers, 8, flagNext, 1})
			r.describe(atDesc, 1, descriptor{guestBase + atBuffers, 8, flagNext, 0})
			r.offer(0)
		}, "the 65th of its chain"},
		"a head beyond the table": {func(r *rig) { r.offer(number) }, "descriptor 64"},
		"a next beyond the table": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase + atBuffers, 8, flagNext, number})
			r.offer(0)
		}, "descriptor 64"},
		"an address below": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase - 1, 8, 0, 0})
			r.offer(0)
		}, "no memory"},
		"an address across the end": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{last - 4, 8, flagWrite, 0})
			r.offer(0)
		}, "no memory"},
		"a length that overflows": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{^uint64(0), guestBase + 16, 0, 0}) // both together are 15 after the beginning
			r.offer(0)
		}, "no memory"},
		"a request too large": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase, half + 1, 0, 0})
			r.offer(0)
		}, "are possible"},
		"an answer too large, in pieces": {func(r *rig) {
			for i := range 8 {
				r.describe(atDesc, i, descriptor{guestBase, half/8 + 1, flagWrite | flagNext, uint16(i + 1)})
			}
			r.offer(0)
		}, "are possible"},
		"to read after to write": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase, 8, flagWrite | flagNext, 1})
			r.describe(atDesc, 1, descriptor{guestBase, 8, 0, 0})
			r.offer(0)
		}, "after one to write to"},
		"a table of odd size": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase + atBuffers, 24, flagIndirect, 0})
			r.offer(0)
		}, "a table of 24 bytes"},
		"an empty table": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase + atBuffers, 0, flagIndirect, 0})
			r.offer(0)
		}, "a table of 0 bytes"},
		"a huge table": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase, guestSize, flagIndirect, 0})
			r.offer(0)
		}, "a table of 16777216 bytes"},
		"a table in a table": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase + atBuffers, 16, flagIndirect, 0})
			r.describe(atBuffers, 0, descriptor{guestBase + atBuffers, 16, flagIndirect, 0})
			r.offer(0)
		}, "a table of descriptors in another"},
		"a table, and a next": {func(r *rig) {
			r.describe(atDesc, 0, descriptor{guestBase + atBuffers, 16, flagIndirect | flagNext, 1})
			r.offer(0)
		}, "a table of 16 bytes"},
		"more requests than there are": {func(r *rig) {
			r.next += number
			r.offer(0)
		}, "65 requests in a queue of 64"},
		"a queue of an odd size":    {func(r *rig) { r.resized(63) }, "a queue of 63"},
		"a queue of nothing":        {func(r *rig) { r.resized(0) }, "a queue of 0"},
		"a queue too large":         {func(r *rig) { r.resized(2 * maxRing) }, "a queue of 65536"},
		"a queue that there is not": {func(r *rig) { r.tell(setVringNum, nil, uint32(2), uint32(64)) }, "queue 2"},
		"memory in too many pieces": {func(r *rig) { r.tell(setMemTable, nil, uint32(9), uint32(0)) }, "9 pieces"},
		"half a message":            {func(r *rig) { r.tell(setVringAddr, nil, uint32(1)) }, "more are needed"},
		"a message of another kind": {func(r *rig) { r.tell(6, nil) }, "asks 6"},
		"a queue where QEMU has nothing": {func(r *rig) {
			r.tell(getVringBase, nil, uint32(1), uint32(0))
			r.tell(setVringAddr, nil, uint32(1), uint32(0), uint64(8), uint64(8), uint64(8), uint64(0))
			r.again()
		}, "of the monitor's memory at 0x8"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.up()
			c.offer(r)
			if err := r.within(10 * time.Second); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the relay ends with %v, which does not say %q", err, c.says)
			}
		})
	}
}

// resized begins the queue anew, with so many descriptors.
func (r *rig) resized(n uint32) {
	r.tell(getVringBase, nil, uint32(1), uint32(0))
	r.tell(setVringNum, nil, uint32(1), n)
	r.again()
}

// again has the relay look at a queue anew.
func (r *rig) again() { r.tell(setVringKick, []*os.File{r.eventfd()}, uint64(1)) }
