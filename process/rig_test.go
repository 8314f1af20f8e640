// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait in the tests; it is reached only when they fail.
const patience = 60 * time.Second

// rig is a supervisor, a directory and the streams of one process.
type rig struct {
	testing.TB
	dir     string
	sup     *Supervisor
	streams *Streams
	ctx     context.Context
}

// newRig checks at the end that no descriptor and no goroutine was left.
func newRig(t testing.TB) *rig {
	t.Helper()
	// The poller's own descriptors are made with the first pipe.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	fds, goroutines := countFDs(t), runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g := &rig{TB: t, dir: t.TempDir(), sup: NewSupervisor(), ctx: ctx}
	t.Cleanup(func() {
		if g.streams != nil {
			g.streams.Close()
		}
		g.sup.Close()
		cancel()
		for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
			runtime.Gosched() // one that has closed its channel still has to return
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines before, %d after", goroutines, n)
		}
		if n := countFDs(t); n != fds {
			t.Errorf("%d descriptors before, %d after", fds, n)
		}
	})
	return g
}

func countFDs(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func (g *rig) path(name string) string { return filepath.Join(g.dir, name) }

// fifo makes a FIFO in the rig's directory.
func (g *rig) fifo(name string) string {
	g.Helper()
	if err := unix.Mkfifo(g.path(name), 0o600); err != nil {
		g.Fatal(err)
	}
	return g.path(name)
}

func (g *rig) config(stdio Stdio) StreamsConfig {
	return StreamsConfig{ID: "c1", Namespace: "ns1", Stdio: stdio, Supervisor: g.sup, RunDir: g.dir}
}

// testLimits are long where the test never gets there, short where it waits: most
// tests open their FIFOs for reading when they come to that.
func testLimits() limits {
	return limits{ready: patience, finish: patience, terminate: patience, stall: patience}
}

func (g *rig) open(stdio Stdio, lim limits) *Streams {
	g.Helper()
	s, err := openStreams(g.ctx, g.config(stdio), lim)
	if err != nil {
		g.Fatal(err)
	}
	g.streams = s
	return s
}

// start runs a program on the streams and attaches them.
func (g *rig) start(path string, args ...string) *Process {
	g.Helper()
	p, err := g.sup.Start(&Command{Path: path, Args: args, Env: []string{"PATH=/usr/bin:/bin"},
		Dir: g.dir, Files: g.streams.Files()})
	if err != nil {
		g.Fatal(err)
	}
	if err := g.streams.Attach(g.ctx); err != nil {
		g.Fatal(err)
	}
	return p
}

func (g *rig) sh(script string) *Process {
	g.Helper()
	return g.start("/bin/sh", "-c", script)
}

// exit waits for the process and checks its status.
func (g *rig) exit(p *Process, status int) {
	g.Helper()
	select {
	case <-p.Done():
	case <-g.ctx.Done():
		g.Fatal("the process does not exit")
	}
	if got := p.Exit().Status; got != status {
		g.Errorf("exit status %d, want %d", got, status)
	}
}

func (g *rig) drain() {
	g.Helper()
	if err := g.streams.Drain(g.ctx); err != nil {
		g.Errorf("drain: %v", err)
	}
}

func (g *rig) close() {
	g.Helper()
	if err := g.streams.Close(); err != nil {
		g.Errorf("close: %v", err)
	}
}

// reader opens the client's end; the streams have to be open.
func (g *rig) reader(path string) *os.File {
	g.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { f.Close() })
	f.SetReadDeadline(time.Now().Add(patience))
	return f
}

func (g *rig) writer(path string) *os.File {
	g.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { f.Close() })
	f.SetWriteDeadline(time.Now().Add(patience))
	return f
}

func (g *rig) write(f *os.File, text string) {
	g.Helper()
	if _, err := io.WriteString(f, text); err != nil {
		g.Fatal(err)
	}
}

// fill writes zeroes until the FIFO takes no more.
func (g *rig) fill(f *os.File) {
	g.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		g.Fatal(err)
	}
	page := make([]byte, 4096)
	for err == nil {
		raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), page) })
	}
	if err != unix.EAGAIN {
		g.Fatal(err)
	}
}

// expect reads exactly the text.
func (g *rig) expect(f io.Reader, text string) {
	g.Helper()
	buf := make([]byte, len(text))
	n, err := io.ReadFull(f, buf)
	if err != nil || string(buf) != text {
		g.Fatalf("read %q (%v), want %q", buf[:n], err, text)
	}
}

// expectEnd reads to the end of the file, which has to come at once.
func (g *rig) expectEnd(f io.Reader) {
	g.Helper()
	if rest, err := io.ReadAll(f); err != nil || len(rest) > 0 {
		g.Fatalf("read %q (%v), want the end of the file", rest, err)
	}
}

func (g *rig) expectFile(path, text string) {
	g.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != text {
		g.Errorf("%s holds %q (%v), want %q", filepath.Base(path), got, err, text)
	}
}

// sum is the length and checksum of a stream.
type sum struct {
	bytes int64
	crc   uint32
	err   error
}

func sumOf(r io.Reader) sum {
	h := crc32.NewIEEE()
	n, err := io.Copy(h, r)
	return sum{n, h.Sum32(), err}
}

// summing reads in the background.
func summing(r io.Reader) <-chan sum {
	c := make(chan sum, 1)
	go func() { c <- sumOf(r) }()
	return c
}

// expectNoChildren checks that this process has no child left, not even a dead one.
func (g *rig) expectNoChildren() {
	g.Helper()
	for _, p := range g.sup.owned {
		g.Errorf("process %d is left", p.Pid())
	}
}
