// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// within is what Serve returns. That it returns at all is what is tested.
func (r *rig) within(limit time.Duration) error {
	r.Helper()
	select {
	case err := <-r.served:
		return err
	case <-time.After(limit):
		r.Fatal("the relay does not end")
		return nil
	}
}

// barrier returns when all that was told before has been done.
func (r *rig) barrier() {
	r.Helper()
	r.tell(getFeatures, nil)
	_, err := receive(r.monitor)
	r.must(err)
}

// under has virtiofsd have one request, which it does not answer.
func (r *rig) under() {
	r.held.Lock()
	r.describe(atDesc, 0, descriptor{Address: guestBase + atBuffers, Length: 8, Flags: flagNext, Next: 1})
	r.describe(atDesc, 1, descriptor{Address: guestBase + atBuffers + 8, Length: 8, Flags: flagWrite})
	r.offer(0)
	r.tell(setVringEnable, nil, uint32(1), uint32(1)) // takes it, if nobody has
	r.barrier()
}

// The ring of a queue that runs cannot be changed: a size of 0 was divided by when
// the answer came.
func TestQueueThatRunsIsChanged(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"size": func(r *rig) { r.tell(setVringNum, nil, uint32(1), uint32(0)) },
		"base": func(r *rig) { r.tell(setVringBase, nil, uint32(1), uint32(7)) },
		"address": func(r *rig) {
			r.tell(setVringAddr, nil, uint32(1), uint32(0), uint64(0), uint64(0), uint64(0), uint64(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.up()
			r.under()
			change(r)
			// It has been read before virtiofsd answers, or the relay has ended.
			_ = send(r.monitor, getFeatures, 0, nil)
			_, _ = receive(r.monitor)
			r.held.Unlock()
			if err := r.within(10 * time.Second); err == nil || !strings.Contains(err.Error(), "a queue that runs") {
				t.Fatalf("got %v", err)
			}
		})
		t.Run(name+", and has nothing to do", func(t *testing.T) {
			r := newRig(t)
			r.up()
			change(r)
			if err := r.within(10 * time.Second); err == nil || !strings.Contains(err.Error(), "a queue that runs") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// A virtiofsd that answers what it was not asked, or with more than there is place
// for, ends the relay.
func TestHostileDaemon(t *testing.T) {
	for name, c := range map[string]struct {
		head, length uint32
		says         string
	}{
		"too long":          {0, 9, "answers with 9 bytes"},
		"not asked":         {2, 0, "what was not asked"},
		"no request":        {1, 0, "gives back descriptor 1"},
		"beyond the table":  {entries, 0, "gives back descriptor 16"},
		"with 2^32-1 bytes": {0, math.MaxUint32, "answers with 4294967295 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.up()
			r.under()
			defer r.held.Unlock()
			q := r.relay.queues[1]
			used := q.desk.data[offUsed+4:]
			binary.LittleEndian.PutUint32(used, c.head)
			binary.LittleEndian.PutUint32(used[4:], c.length)
			atomic.StoreUint32(q.desk.word(offUsed), 1<<16)
			r.must(signal(q.done))
			if err := r.within(10 * time.Second); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What virtiofsd has of the area cannot be shortened.
func TestAreaIsSealed(t *testing.T) {
	a, err := newArea()
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if err := a.file.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Fatalf("got %v", err)
	}
}

// An eventfd that its other side has block cannot hold up the end.
func TestEventThatBlocks(t *testing.T) {
	r := newRig(t)
	r.up()
	var count [8]byte
	_, err := r.call.Read(count[:]) // as each is rung first
	r.must(err)
	r.block(r.kick)
	r.block(r.call)
	// Of one the counter is 0, of the other at its most: to read and to write waits.
	_, err = r.call.Write(binary.NativeEndian.AppendUint64(nil, math.MaxUint64-1))
	r.must(err)
	r.under()
	r.held.Unlock()
	for atomic.LoadUint32(r.word(atUsed))>>16 == 0 {
		runtime.Gosched()
	}
	r.must(r.monitor.Close())
	if err := r.within(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	_, err = r.call.Read(count[:]) // or the thread would be left
	r.must(err)
}

func (r *rig) block(f *os.File) {
	r.Helper()
	raw, err := f.SyscallConn()
	r.must(err)
	r.must(raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), false) }))
	r.must(err)
}

// A relay that never serves lets go of its connections.
func TestDiscard(t *testing.T) {
	r := &rig{T: t}
	monitor, relayMonitor := r.pair()
	daemon, relayDaemon := r.pair()
	relay, err := New(relayMonitor, relayDaemon, nil)
	r.must(err)
	relay.Discard()
	for _, conn := range []*net.UnixConn{monitor, daemon} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
		r.must(conn.Close())
	}
}
