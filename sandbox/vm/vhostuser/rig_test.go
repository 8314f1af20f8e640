// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// rig is a guest and its QEMU, whose memory is this process's, and a daemon that
// answers each request with its bytes in reverse.
type rig struct {
	*testing.T
	relay   *Relay
	monitor *net.UnixConn
	served  chan error
	memory  []byte // of the guest, which has it from guestBase on
	kick    *os.File
	call    *os.File
	next    uint16 // available index
	held    sync.Mutex
}

const (
	guestBase = 0x4000_0000
	guestSize = 16 << 20
	number    = 64 // of descriptors
	atDesc    = 0
	atAvail   = 4 << 10
	atUsed    = 8 << 10
	atBuffers = 64 << 10
)

func newRig(t *testing.T) *rig {
	r := &rig{T: t, served: make(chan error, 1)}
	var err error
	r.memory, err = unix.Mmap(-1, 0, guestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	r.must(err)
	t.Cleanup(func() { _ = unix.Munmap(r.memory) })
	monitor, relayMonitor := r.pair()
	daemon, relayDaemon := r.pair()
	r.monitor = monitor
	r.relay, err = New(relayMonitor, relayDaemon, func() (*os.File, error) { return os.OpenFile("/proc/self/mem", os.O_RDWR, 0) })
	r.must(err)
	served := make(chan struct{})
	go func() { defer close(served); serveReversed(daemon, &r.held) }()
	go func() { r.served <- r.relay.Serve() }()
	t.Cleanup(func() { _ = monitor.Close(); <-served })
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) pair() (a, b *net.UnixConn) {
	r.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	r.must(err)
	for i, c := range []**net.UnixConn{&a, &b} {
		f := os.NewFile(uintptr(fds[i]), "pair")
		conn, err := net.FileConn(f)
		r.must(err)
		r.must(f.Close())
		*c = conn.(*net.UnixConn)
	}
	return a, b
}

func (r *rig) eventfd() *os.File {
	r.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	r.must(err)
	f := os.NewFile(uintptr(fd), "eventfd")
	r.Cleanup(func() { _ = f.Close() })
	return f
}

// tell sends what QEMU would.
func (r *rig) tell(m request, files []*os.File, fields ...any) {
	r.Helper()
	r.must(send(r.monitor, m, 0, files, fields...))
}

func (r *rig) host() uint64 { return uint64(uintptr(unsafe.Pointer(&r.memory[0]))) }

// up gives the relay the guest's memory, and queue 1.
func (r *rig) up() {
	r.tell(setMemTable, nil, uint32(1), uint32(0), region{Guest: guestBase, Size: guestSize, Monitor: r.host()})
	r.start(0)
}

func (r *rig) start(base uint32) {
	r.kick, r.call = r.eventfd(), r.eventfd()
	r.tell(setVringNum, nil, uint32(1), uint32(number))
	r.tell(setVringBase, nil, uint32(1), base)
	r.tell(setVringAddr, nil, uint32(1), uint32(0), r.host()+atDesc, r.host()+atUsed, r.host()+atAvail, uint64(0))
	r.tell(setVringKick, []*os.File{r.kick}, uint64(1))
	r.tell(setVringCall, []*os.File{r.call}, uint64(1))
	r.tell(setVringEnable, nil, uint32(1), uint32(1))
}

// describe writes a descriptor into a table.
func (r *rig) describe(table, i int, d descriptor) {
	b := r.memory[table+i*descriptorSize:]
	binary.LittleEndian.PutUint64(b, d.Address)
	binary.LittleEndian.PutUint32(b[8:], d.Length)
	binary.LittleEndian.PutUint16(b[12:], d.Flags)
	binary.LittleEndian.PutUint16(b[14:], d.Next)
}

// offer makes a chain available.
func (r *rig) offer(head uint16) {
	binary.LittleEndian.PutUint16(r.memory[atAvail+4+2*(int(r.next)%number):], head)
	r.next++
	atomic.StoreUint32(r.word(atAvail), uint32(r.next)<<16)
	r.must(signal(r.kick))
}

func (r *rig) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory[at])) }

// used waits until so many requests were given back.
func (r *rig) used(n uint16) {
	r.Helper()
	var b [8]byte
	for uint16(atomic.LoadUint32(r.word(atUsed))>>16) != n {
		if _, err := r.call.Read(b[:]); err != nil {
			r.Fatal(err)
		}
	}
}

// serveReversed is the daemon, until its monitor hangs up. It answers only while
// nobody else has the lock.
func serveReversed(conn *net.UnixConn, held *sync.Mutex) {
	defer func() { _ = conn.Close() }()
	var data []byte
	var calls [queues]*os.File
	var rings [queues][3]uint64
	var work sync.WaitGroup
	var open []*os.File
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
		work.Wait()
		_ = unix.Munmap(data)
	}()
	for {
		m, err := receive(conn)
		if err != nil {
			return
		}
		var i, flags uint32
		_ = m.fields(&i)
		switch m.request {
		case getFeatures:
			_ = send(conn, getFeatures, isReply, nil, uint64(featureVersion1|featureProtocol))
		case setMemTable:
			data, _ = unix.Mmap(int(m.files[0].Fd()), 0, areaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		case setVringAddr:
			_ = m.fields(&i, &flags, &rings[i][0], &rings[i][1], &rings[i][2])
		case setVringCall:
			calls[i] = m.takeFile()
			open = append(open, calls[i])
		case setVringKick:
			kick := m.takeFile()
			open = append(open, kick)
			at := rings[i]
			work.Go(func() { reverseAll(data, at, kick, calls[i], held) })
		}
		m.close()
	}
}

func reverseAll(data []byte, ring [3]uint64, kick, call *os.File, held *sync.Mutex) {
	le := binary.LittleEndian
	at := func(i int) []byte { return data[ring[i]-areaGuest:] }
	word := func(i int) *uint32 { return (*uint32)(unsafe.Pointer(&at(i)[0])) }
	var done uint16
	var b [8]byte
	for {
		if _, err := kick.Read(b[:]); err != nil {
			return
		}
		held.Lock()
		for done != uint16(atomic.LoadUint32(word(2))>>16) {
			head := le.Uint16(at(2)[4+2*(int(done)%entries):])
			out := decode(at(0)[int(head)*descriptorSize:])
			n := 0
			if out.Flags&flagNext != 0 {
				in := decode(at(0)[int(out.Next)*descriptorSize:])
				n = int(min(in.Length, out.Length))
				from, to := data[out.Address-areaGuest:][:out.Length], data[in.Address-areaGuest:]
				for i := range n {
					to[i] = from[len(from)-1-i]
				}
			}
			e := at(1)[4+8*(int(done)%entries):]
			le.PutUint32(e, uint32(head))
			le.PutUint32(e[4:], uint32(n))
			done++
			atomic.StoreUint32(word(1), uint32(done)<<16)
			_ = signal(call)
		}
		held.Unlock()
	}
}
