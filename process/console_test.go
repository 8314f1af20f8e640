// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// runtime starts the program that stands for an OCI runtime.
func (g *rig) runtime(args ...string) *Process {
	g.Helper()
	p, err := g.sup.Start(&Command{Path: self(g), Dir: g.dir, Env: []string{"PATH=/usr/bin:/bin"},
		Args: append([]string{"program", "runtime", "socket", g.streams.ConsoleSocket()}, args...)})
	if err != nil {
		g.Fatal(err)
	}
	return p
}

// tty starts a script on a terminal.
func (g *rig) tty(script string) *Process {
	g.Helper()
	p := g.runtime("script", script)
	if err := g.streams.Attach(g.ctx); err != nil {
		g.Fatal(err)
	}
	return p
}

func TestTerminal(t *testing.T) {
	g := newRig(t)
	in, out := g.fifo("in"), g.fifo("out")
	g.open(Stdio{Stdin: in, Stdout: out, Terminal: true}, testLimits())
	if g.streams.Files() != nil {
		t.Error("a terminal has files")
	}
	if err := g.streams.Resize(1, 1); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("resize before attach: %v", err)
	}
	r, w := g.reader(out), g.writer(in)
	p := g.tty("stty -echo; tty -s && echo ready; read x; echo got $x; stty size; exit 5")
	if _, err := os.Stat(g.streams.ConsoleSocket()); !os.IsNotExist(err) {
		t.Errorf("console socket is left: %v", err)
	}
	g.expect(r, "ready\r\n")
	if err := g.streams.Resize(120, 40); err != nil {
		t.Fatal(err)
	}
	g.write(w, "line\n")
	g.expect(r, "got line\r\n40 120\r\n")
	g.exit(p, 5)
	g.drain()
	g.expectEnd(r)
	g.close()
	if err := g.streams.Resize(1, 1); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("resize after close: %v", err)
	}
}

func TestTerminalStdinReattaches(t *testing.T) {
	g := newRig(t)
	in, out := g.fifo("in"), g.fifo("out")
	g.open(Stdio{Stdin: in, Stdout: out, Terminal: true}, testLimits())
	r := g.reader(out)
	p := g.tty("stty -echo; echo ready; while read x; do echo got $x; done; echo over")
	g.expect(r, "ready\r\n")
	for _, line := range []string{"one", "two"} {
		w := g.writer(in)
		g.write(w, line+"\n")
		g.expect(r, "got "+line+"\r\n")
		if line == "two" {
			g.streams.CloseStdin()
			g.write(w, "\x04") // a terminal's end of input is a character
		}
		w.Close()
	}
	g.expect(r, "over\r\n")
	g.exit(p, 0)
	g.drain()
	g.close()
}

// The kernel passes a terminal's output on in a worker: Drain must not take a
// momentarily empty master for the end, neither when the terminal is closed
// nor when a background process keeps it open.
func TestTerminalBurstIsComplete(t *testing.T) {
	const size = 40000
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held=%t", held), func(t *testing.T) {
			g := newRig(t)
			gate, err := os.OpenFile(g.fifo("gate"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer gate.Close()
			for i := range 20 {
				out := g.fifo(fmt.Sprint("out", i))
				g.open(Stdio{Stdout: out, Terminal: true}, testLimits())
				r := g.reader(out)
				script := "exec " + self(t) + " program burst bytes " + fmt.Sprint(size)
				if held {
					script = "trap '' HUP; read x <gate & " + script
				}
				p := g.tty(script)
				g.exit(p, 0)
				g.drain()
				if got, want := sumOf(io.LimitReader(r, size)), sumOf(noise(size)); got != want {
					t.Fatalf("got %+v, want %+v", got, want)
				}
				g.close()
				if held {
					g.write(gate, "\n")
				}
			}
		})
	}
}

func TestTerminalThatIsNeverQuiet(t *testing.T) {
	g := newRig(t)
	out := g.fifo("out")
	g.open(Stdio{Stdout: out, Terminal: true}, testLimits())
	got := summing(g.reader(out))
	g.exit(g.tty("trap '' HUP; (exec yes) & exit 3"), 3)
	g.drain()
	g.close() // yes gets EIO
	if s := <-got; s.err != nil {
		t.Error(s.err)
	}
}

func TestTerminalWithoutClient(t *testing.T) {
	g := newRig(t)
	g.open(Stdio{Terminal: true}, testLimits())
	p := g.runtime("bytes", "1000000")
	if err := g.streams.Attach(g.ctx); err != nil {
		t.Fatal(err)
	}
	g.exit(p, 0)
	g.drain()
	g.close()
}

func TestTerminalIntoFileAndLogger(t *testing.T) {
	g := newRig(t)
	for _, c := range []struct{ uri, path string }{
		{"file://" + g.path("logs/tty"), g.path("logs/tty")},
		{loggerURI(t, "binary-v2", "logger", "dir", g.dir), g.path("stdout")},
	} {
		g.open(Stdio{Stdout: c.uri, Terminal: true}, testLimits())
		g.exit(g.tty("echo out; echo err >&2"), 0)
		g.drain()
		g.close()
		g.expectFile(c.path, "out\r\nerr\r\n")
	}
	g.expectFile(g.path("stderr"), "")
}

func TestTerminalFullFIFO(t *testing.T) {
	const size = 4000 // the kernel holds that much for a terminal
	g := newRig(t)
	lim := testLimits()
	lim.stall = 50 * time.Millisecond
	out := g.fifo("out")
	g.open(Stdio{Stdout: out, Terminal: true}, lim)
	g.fill(g.writer(out))
	p := g.runtime("bytes", fmt.Sprint(size))
	if err := g.streams.Attach(g.ctx); err != nil {
		t.Fatal(err)
	}
	g.exit(p, 0)
	err := g.streams.Drain(g.ctx)
	want := fmt.Sprintf("at least %d bytes", size)
	if !errors.Is(err, errNoReader) || !strings.Contains(err.Error(), want) {
		t.Errorf("drain: %v, want %q", err, want)
	}
	g.close()
}

func TestAttachErrors(t *testing.T) {
	for _, c := range []struct{ send, want string }{
		{"nothing", "EOF"},
		{"file", "not a pty"},
	} {
		t.Run(c.send, func(t *testing.T) {
			g := newRig(t)
			g.open(Stdio{Stdin: g.fifo("in"), Stdout: g.fifo("out"), Terminal: true}, testLimits())
			p := g.runtime("send", c.send)
			if err := g.streams.Attach(g.ctx); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("attach: %v, want %q", err, c.want)
			}
			g.exit(p, 0)
			g.close()
		})
	}
}

func TestAttachEndsWithContextOrClose(t *testing.T) {
	g := newRig(t)
	g.open(Stdio{Stdout: g.fifo("out"), Terminal: true}, testLimits())
	ctx, cancel := context.WithCancel(g.ctx)
	cancel()
	if err := g.streams.Attach(ctx); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("attach: %v", err)
	}
	g.close()

	g.open(Stdio{Stdout: g.path("out"), Terminal: true}, testLimits())
	attached := make(chan error)
	go func() { attached <- g.streams.Attach(g.ctx) }()
	g.close()
	if err := <-attached; err == nil || g.ctx.Err() != nil {
		t.Errorf("attach on streams that were closed: %v, %v", err, g.ctx.Err())
	}
	if _, err := os.Stat(g.streams.ConsoleSocket()); !os.IsNotExist(err) {
		t.Errorf("console socket is left: %v", err)
	}
}
