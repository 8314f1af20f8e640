// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Of linux/connector.h and linux/cn_proc.h.
const (
	cnIdxProc, cnValProc = 1, 1
	mcastListen          = 1
	eventFork            = 0x1
	eventExec            = 0x2
	eventExit            = 0x80000000
	// An event follows a netlink header and a connector header.
	payloadAt = unix.NLMSG_HDRLEN + 20
	dataAt    = payloadAt + 16 // after what, cpu and the time
)

// process is one that was seen from its fork to its exit, both on the clock of
// now.
type process struct {
	pid, parent int
	begin, end  time.Duration // end is that of its last thread, 0 while one runs
	threads     int
	execs       []exec
}

// exec is when a process became another program.
type exec struct {
	at   time.Duration
	args []string // as far as it was there long enough to be asked
}

// watch hears of all processes of the host.
type watch struct {
	socket *os.File
	done   sync.WaitGroup
	news   chan struct{} // capacity 1: something was heard; closed at the end

	mu  sync.Mutex
	all []*process // by their forks
}

// now is CLOCK_MONOTONIC, which the kernel stamps events with.
func now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

func newWatch() (*watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's proc connector (CONFIG_PROC_EVENTS, root): %w", err)
	}
	msg := make([]byte, payloadAt+4)
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	binary.NativeEndian.PutUint16(msg[4:], unix.NLMSG_DONE)
	cn := msg[unix.NLMSG_HDRLEN:]
	binary.NativeEndian.PutUint32(cn, cnIdxProc)
	binary.NativeEndian.PutUint32(cn[4:], cnValProc)
	binary.NativeEndian.PutUint16(cn[16:], 4)
	binary.NativeEndian.PutUint32(cn[20:], mcastListen)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnIdxProc}),
		unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the kernel's proc connector: %w", err), unix.Close(fd))
	}
	w := &watch{socket: os.NewFile(uintptr(fd), "proc connector"), news: make(chan struct{}, 1)}
	w.done.Go(w.run)
	return w, nil
}

// run hears events until the socket is closed.
func (w *watch) run() {
	defer close(w.news)
	buf := make([]byte, 4096)
	for {
		n, err := w.socket.Read(buf)
		if err != nil {
			return
		}
		if n < dataAt+16 {
			continue
		}
		w.hear(buf[payloadAt:n])
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

func (w *watch) hear(event []byte) {
	field := func(i int) int { return int(binary.NativeEndian.Uint32(event[16+4*i:])) }
	at := time.Duration(binary.NativeEndian.Uint64(event[8:]))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch binary.NativeEndian.Uint32(event) {
	case eventFork:
		if field(2) == field(3) {
			w.all = append(w.all, &process{pid: field(3), parent: field(1), begin: at, threads: 1})
		} else if p := w.livingLocked(field(3)); p != nil {
			p.threads++
		}
	case eventExec:
		if p := w.livingLocked(field(1)); p != nil {
			p.execs = append(p.execs, exec{at, args(p.pid)})
		}
	case eventExit:
		if p := w.livingLocked(field(1)); p != nil {
			if p.threads--; p.threads == 0 {
				p.end = at
			}
		}
	}
}

func (w *watch) livingLocked(pid int) *process {
	for _, p := range slices.Backward(w.all) {
		if p.pid == pid && p.end == 0 {
			return p
		}
	}
	return nil
}

func args(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// settle waits until what happened before now was heard, which is so once a
// process that was begun after it is heard to end.
func (w *watch) settle() error {
	cmd := osexec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		return err
	}
	for !w.ended(cmd.Process.Pid) {
		if _, ok := <-w.news; !ok {
			return errors.New("the kernel's proc connector has ended")
		}
	}
	return nil
}

func (w *watch) ended(pid int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range slices.Backward(w.all) {
		if p.pid == pid {
			return p.end != 0
		}
	}
	return false
}

// descendants are the processes between two times that come from this one.
func (w *watch) descendants(from, to time.Duration) []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := map[int]bool{os.Getpid(): true}
	var list []*process
	for _, p := range w.all {
		if !ours[p.parent] {
			delete(ours, p.pid) // another's, with the pid of one that has gone
			continue
		}
		ours[p.pid] = true
		if p.begin < to && (p.end == 0 || p.end > from) {
			copied := *p
			list = append(list, &copied)
		}
	}
	return list
}

func (w *watch) close() error {
	err := w.socket.Close()
	w.done.Wait()
	return err
}
