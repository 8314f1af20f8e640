// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestBurstThenExitIsComplete(t *testing.T) {
	const size = 8 << 20
	g := newRig(t)
	out := g.fifo("out")
	g.open(Stdio{Stdout: out}, testLimits())
	got := summing(g.reader(out))
	p := g.start(self(t), "program", "burst", "bytes", fmt.Sprint(size))
	g.exit(p, 0)
	g.drain()
	g.close()
	if got, want := <-got, sumOf(noise(size)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	const size = 20 << 20
	g := newRig(t)
	in, out := g.fifo("in"), g.fifo("out")
	g.open(Stdio{Stdin: in, Stdout: out}, testLimits())
	got := summing(g.reader(out))
	p := g.sh("exec cat")
	w := g.writer(in)
	if _, err := io.Copy(w, noise(size)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := g.streams.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	g.exit(p, 0)
	g.drain()
	g.close()
	if got, want := <-got, sumOf(noise(size)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What is in the pipe at the exit is delivered however late the reader is.
func TestDrainWaitsForSlowReader(t *testing.T) {
	const size = 150 << 10 // two pipes and a chunk
	g := newRig(t)
	out := g.fifo("out")
	lim := testLimits()
	lim.stall = 500 * time.Millisecond
	g.open(Stdio{Stdout: out}, lim)
	r := g.reader(out)
	p := g.start(self(t), "program", "burst", "bytes", fmt.Sprint(size))
	g.exit(p, 0)
	got := summing(&slowReader{from: r, every: time.NewTicker(25 * time.Millisecond)})
	begin := time.Now()
	g.drain()
	if took := time.Since(begin); took < lim.stall {
		t.Logf("the drain took %s, too short to show that progress counts", took)
	}
	g.close()
	if got, want := <-got, sumOf(noise(size)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// slowReader takes a page at a tick.
type slowReader struct {
	from  io.Reader
	every *time.Ticker
}

func (s *slowReader) Read(p []byte) (int, error) {
	<-s.every.C
	return s.from.Read(p[:min(len(p), 4096)])
}

func TestReaderGoesAndReturns(t *testing.T) {
	g := newRig(t)
	in, out := g.fifo("in"), g.fifo("out")
	g.open(Stdio{Stdin: in, Stdout: out}, testLimits())
	p := g.sh("exec cat")
	w := g.writer(in)
	first := g.reader(out)
	g.write(w, "one")
	g.expect(first, "one")
	first.Close()
	g.write(w, "two")
	second := g.reader(out)
	g.expect(second, "two")
	w.Close()
	g.streams.CloseStdin()
	g.exit(p, 0)
	g.drain()
	g.expectEnd(second) // the process closed its end: so do we, before Close
	g.close()
}

func TestFullFIFOHoldsUpNothingElse(t *testing.T) {
	const size = 120 << 10 // does not fit in the FIFO; the process can leave it
	g := newRig(t)
	out, errs := g.fifo("out"), g.fifo("err")
	lim := testLimits()
	lim.stall = 100 * time.Millisecond
	g.open(Stdio{Stdout: out, Stderr: errs}, lim)
	r := g.reader(errs)
	p := g.sh(fmt.Sprintf("head -c %d /dev/zero; echo more >&2; exit 7", size))
	g.expect(r, "more\n")
	g.exit(p, 7)
	err := g.streams.Drain(g.ctx)
	if !errors.Is(err, errNoReader) || !strings.Contains(err.Error(), "stdout") || strings.Contains(err.Error(), "stderr") {
		t.Errorf("drain: %v", err)
	}
	g.expectEnd(r)
	g.close()
}

func TestDrainCountsWhatIsDropped(t *testing.T) {
	const size = 120 << 10
	g := newRig(t)
	out := g.fifo("out")
	lim := testLimits()
	lim.stall = 50 * time.Millisecond
	g.open(Stdio{Stdout: out}, lim)
	r := g.reader(out)
	g.exit(g.sh(fmt.Sprintf("exec head -c %d /dev/zero", size)), 0)
	err := g.streams.Drain(g.ctx)
	g.close()
	got := sumOf(r)
	want := fmt.Sprintf("at least %d bytes dropped", size-got.bytes)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("drain: %v, want %q", err, want)
	}
}

func TestDrainEndsWithContext(t *testing.T) {
	g := newRig(t)
	out := g.fifo("out")
	g.open(Stdio{Stdout: out}, testLimits())
	g.exit(g.sh("exec head -c 120000 /dev/zero"), 0)
	ctx, cancel := context.WithTimeout(g.ctx, 50*time.Millisecond)
	defer cancel()
	if err := g.streams.Drain(ctx); !errors.Is(err, errNoReader) {
		t.Errorf("drain: %v", err)
	}
	g.close()
}

func TestCloseEndsStuckRelays(t *testing.T) {
	g := newRig(t)
	in, out := g.fifo("in"), g.fifo("out")
	g.open(Stdio{Stdin: in, Stdout: out}, testLimits())
	p := g.sh("exec head -c 10000000 /dev/zero") // stuck in a write, reads no input
	g.fill(g.writer(in))
	g.close()
	g.exit(p, 128+int(unix.SIGPIPE))
}

// A destination that fails is not the process's problem (containerd #12462).
func TestBrokenDestinationIsDrained(t *testing.T) {
	g := newRig(t)
	g.open(Stdio{Stdout: "/dev/full"}, testLimits())
	g.exit(g.sh("exec head -c 1000000 /dev/zero"), 0)
	err := g.streams.Drain(g.ctx)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "1000000 bytes") {
		t.Errorf("drain: %v", err)
	}
	g.close()
}

func TestStdinOutlivesItsClients(t *testing.T) {
	g := newRig(t)
	in, out := g.fifo("in"), g.fifo("out")
	g.open(Stdio{Stdin: in, Stdout: out}, testLimits())
	p := g.sh("exec cat")
	r := g.reader(out)
	first := g.writer(in)
	g.write(first, "a")
	g.expect(r, "a")
	first.Close()
	second := g.writer(in)
	g.write(second, "b")
	g.expect(r, "b")
	if err := g.streams.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	g.write(second, "c") // still open: still read
	g.expect(r, "c")
	second.Close()
	g.exit(p, 0)
	g.drain()
	g.close()
	if err := g.streams.CloseStdin(); err != nil {
		t.Errorf("second CloseStdin: %v", err)
	}
}

// A client that writes to a process that no longer reads gets EPIPE, as it
// would without a shim.
func TestStdinEndsWithItsProcess(t *testing.T) {
	g := newRig(t)
	in := g.fifo("in")
	g.open(Stdio{Stdin: in}, testLimits())
	g.exit(g.sh("exit"), 0)
	w := g.writer(in)
	g.write(w, "x")
	select {
	case <-g.streams.input.done:
	case <-g.ctx.Done():
		t.Fatal("the relay goes on")
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("write: %v", err)
	}
	g.close()
}

// Data that was in the FIFO before anybody read it comes before the end.
func TestStdinWrittenBeforeAttach(t *testing.T) {
	g := newRig(t)
	in, out := g.fifo("in"), g.fifo("out")
	g.open(Stdio{Stdin: in, Stdout: out}, testLimits())
	w := g.writer(in)
	g.write(w, "early")
	w.Close()
	g.streams.CloseStdin()
	p := g.sh("exec cat")
	g.expect(g.reader(out), "early")
	g.exit(p, 0)
	g.close()
}

func TestBackgroundChildHoldsStdout(t *testing.T) {
	g := newRig(t)
	out, gate := g.fifo("out"), g.fifo("gate")
	g.open(Stdio{Stdout: out, Stderr: out}, testLimits())
	hold, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	r := g.reader(out)
	p := g.sh("(read x; echo $x) <gate & echo done")
	g.exit(p, 0)
	g.drain() // although the pipe stays open
	g.expect(r, "done\n")
	g.write(hold, "late\n")
	g.expect(r, "late\n") // relayed until Close
	g.expectEnd(r)
	g.close()
}

// After the drain, readers have all the time again.
func TestNoLimitAfterDrain(t *testing.T) {
	g := newRig(t)
	out := g.fifo("out")
	gate, err := os.OpenFile(g.fifo("gate"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	lim := testLimits()
	lim.stall = 1 // ns: to wait at all is to give up
	g.open(Stdio{Stdout: out}, lim)
	r := g.reader(out)
	g.fill(g.writer(out))
	var held int
	g.streams.outputs[0].dst.raw.Control(func(fd uintptr) { held, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err != nil {
		t.Fatal(err)
	}
	g.exit(g.sh("(read x; echo late) <gate &"), 0)
	g.drain()
	g.write(gate, "\n")
	for relay := g.streams.outputs[0]; relay.pending.Load() == 0 && relay.lost.Load() == 0; {
		runtime.Gosched() // until the relay stands before the full FIFO
	}
	if _, err := io.CopyN(io.Discard, r, int64(held)); err != nil {
		t.Fatal(err)
	}
	g.expect(r, "late\n")
	g.close()
}

// A pipe that is never empty does not keep Drain, either.
func TestBackgroundChildKeepsWriting(t *testing.T) {
	g := newRig(t)
	out := g.fifo("out")
	g.open(Stdio{Stdout: out}, testLimits())
	r := g.reader(out)
	got := summing(r)
	p := g.sh("echo $$; (exec yes) & exit 3")
	g.exit(p, 3)
	g.drain()
	g.close() // yes gets SIGPIPE
	if s := <-got; s.err != nil || s.bytes == 0 {
		t.Errorf("got %+v", s)
	}
}

func TestFileIsShared(t *testing.T) {
	g := newRig(t)
	log := g.path("deep/er/log")
	uri := "file://" + log
	for _, want := range []string{"one\ntwo\nthree\n", "one\ntwo\nthree\none\ntwo\nthree\n"} {
		g.open(Stdio{Stdout: uri, Stderr: uri}, testLimits())
		if a, b := g.streams.outputs[0].dst, g.streams.outputs[1].dst; a != b {
			t.Error("stdout and stderr have a descriptor each")
		}
		p := g.sh("echo one; echo two; echo three >&2")
		g.exit(p, 0)
		g.drain()
		g.close()
		got, _ := os.ReadFile(log)
		if len(got) != len(want) || strings.Count(string(got), "three\n") != strings.Count(want, "three\n") {
			t.Errorf("log holds %q, want the lines of %q", got, want)
		}
	}
}

func TestPlainPathOfFileIsAppendedTo(t *testing.T) {
	g := newRig(t)
	log := g.path("log")
	if err := os.WriteFile(log, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.open(Stdio{Stdout: log}, testLimits())
	g.exit(g.sh("echo new"), 0)
	g.drain()
	g.close()
	g.expectFile(log, "old\nnew\n")
}

func TestNull(t *testing.T) {
	g := newRig(t)
	g.open(Stdio{}, testLimits())
	for i, f := range g.streams.Files() {
		if f != nil {
			t.Errorf("descriptor %d is not null", i)
		}
	}
	g.exit(g.sh("cat; head -c 1000000 /dev/zero; for fd in 0 1 2; do [ /proc/self/fd/$fd -ef /dev/null ] || exit 1; done"), 0)
	g.drain()
	g.close()
}

func TestPipesBelongToTheUser(t *testing.T) {
	g := newRig(t)
	cfg := g.config(Stdio{Stdin: g.fifo("in"), Stdout: g.fifo("out"), Stderr: g.fifo("err")})
	cfg.UID, cfg.GID = 1234, 4321
	s, err := openStreams(g.ctx, cfg, testLimits())
	if err != nil {
		t.Fatal(err)
	}
	g.streams = s
	for i, f := range s.Files() {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != 1234 || st.Gid != 4321 {
			t.Errorf("descriptor %d: %d:%d, %v", i, st.Uid, st.Gid, err)
		}
	}
	g.close()
}

func TestCloseWithoutAttach(t *testing.T) {
	g := newRig(t)
	g.open(Stdio{Stdin: g.fifo("in"), Stdout: g.fifo("out"), Stderr: g.fifo("err")}, testLimits())
	g.close()
	g.close()
	if err := g.streams.Attach(g.ctx); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("attach after close: %v", err)
	}
	g.drain()
}

func TestOpenErrors(t *testing.T) {
	g := newRig(t)
	fifo, file := g.fifo("fifo"), g.path("file")
	os.WriteFile(file, nil, 0o600)
	for name, stdio := range map[string]Stdio{
		"missing stdout":       {Stdin: fifo, Stdout: g.path("none")},
		"missing stderr":       {Stdout: fifo, Stderr: g.path("none")},
		"missing stdin":        {Stdin: g.path("none")},
		"stdin is a file":      {Stdin: file},
		"stdout is a folder":   {Stdin: fifo, Stdout: g.dir},
		"relative":             {Stdout: "out"},
		"unknown scheme":       {Stdout: "http:///out"},
		"host in URI":          {Stdout: "file://var/log"},
		"logger on stdin":      {Stdin: "binary:///bin/cat"},
		"logger for stderr":    {Stdout: fifo, Stderr: "binary:///bin/cat"},
		"two loggers":          {Stdout: "binary:///bin/cat", Stderr: "binary:///bin/tac"},
		"NUL":                  {Stdout: "/a\x00b"},
		"long console path":    {Stdout: fifo, Terminal: true},
		"escaped NUL argument": {Stdout: "binary:///bin/cat?a=%00"},
	} {
		cfg := g.config(stdio)
		cfg.RunDir = "/" + strings.Repeat("x", 100)
		if _, err := openStreams(g.ctx, cfg, testLimits()); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
