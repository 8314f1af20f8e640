// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestLoggerGetsEverything(t *testing.T) {
	for _, scheme := range []string{"binary", "binary-v2"} {
		t.Run(scheme, func(t *testing.T) {
			g := newRig(t)
			uri := loggerURI(t, scheme, "logger", "dir", g.dir, "empty", "")
			in := g.fifo("in")
			g.open(Stdio{Stdin: in, Stdout: uri, Stderr: uri}, testLimits())
			p := g.sh("cat; echo err >&2")
			w := g.writer(in)
			g.write(w, "out")
			w.Close()
			g.streams.CloseStdin()
			g.exit(p, 0)
			g.drain()
			g.close() // waits for the logger
			g.expectFile(g.path("stdout"), "out")
			g.expectFile(g.path("stderr"), "err\n")
			g.expectFile(g.path("env"), "CONTAINER_ID=c1\nCONTAINER_NAMESPACE=ns1")
			g.expectFile(g.path("end"), "")
		})
	}
}

func TestLoggerClosingItsPipeIsReady(t *testing.T) {
	g := newRig(t)
	g.open(Stdio{Stdout: loggerURI(t, "binary", "logger", "dir", g.dir, "ready", "close")}, testLimits())
	g.exit(g.sh("echo out; echo err >&2"), 0)
	g.close()
	g.expectFile(g.path("stdout"), "out\n")
	g.expectFile(g.path("stderr"), "err\n")
}

func TestLoggerNotReady(t *testing.T) {
	short := testLimits()
	short.ready = 50 * time.Millisecond
	for _, c := range []struct{ name, uri, want string }{
		{"crash", loggerURI(t, "binary-v2", "logger-crash"), "exited with status 3"},
		{"no byte", loggerURI(t, "binary-v2", "logger-stubborn"), "without the byte"},
		{"never", loggerURI(t, "binary", "logger-mute"), "not ready in time"},
		{"no program", "binary:///does/not/exist", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			lim := testLimits()
			if c.name == "never" {
				lim = short
			}
			s, err := openStreams(g.ctx, g.config(Stdio{Stdout: c.uri}), lim)
			if err == nil {
				g.streams = s
				t.Fatal("no error")
			}
			path, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(c.uri, "binary-v2://"), "binary://"), "?")
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v; want %q and the logger's name", err, c.want)
			}
			g.expectNoChildren()
		})
	}
}

func TestLoggerStartEndsWithContext(t *testing.T) {
	g := newRig(t)
	ctx, cancel := context.WithCancel(g.ctx)
	cancel()
	_, err := openStreams(ctx, g.config(Stdio{Stdout: loggerURI(t, "binary", "logger-mute")}), testLimits())
	if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("open: %v", err)
	}
	g.expectNoChildren()
}

func TestLoggerThatIgnoresSIGTERMIsKilled(t *testing.T) {
	g := newRig(t)
	lim := testLimits()
	lim.finish, lim.terminate = 50*time.Millisecond, 50*time.Millisecond
	g.open(Stdio{Stdout: loggerURI(t, "binary", "logger-stubborn")}, lim)
	g.exit(g.sh("echo out"), 0)
	if err := g.streams.Close(); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("close: %v", err)
	}
	g.expectNoChildren()
}

// A logger that waits for SIGTERM, because somebody holds its input, gets it.
func TestLoggerIsTerminated(t *testing.T) {
	g := newRig(t)
	lim := testLimits()
	lim.finish = 50 * time.Millisecond
	g.open(Stdio{Stdout: loggerURI(t, "binary", "logger", "dir", g.dir)}, lim)
	gate := g.fifo("gate")
	hold, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	g.exit(g.sh("read x <gate & echo out"), 0)
	g.close()
	g.expectNoChildren()
	g.write(hold, "\n")
	g.expectFile(g.path("stdout"), "out\n")
}

func TestLoggerClosedWithoutAttach(t *testing.T) {
	g := newRig(t)
	g.open(Stdio{Stdout: loggerURI(t, "binary-v2", "logger", "dir", g.dir)}, testLimits())
	g.close()
	g.expectFile(g.path("end"), "")
}

func TestLoggerNeedsAnAbsolutePath(t *testing.T) {
	g := newRig(t)
	if _, err := OpenStreams(g.ctx, g.config(Stdio{Stdout: "binary://cat"})); !errdefs.IsInvalidArgument(err) {
		t.Errorf("open: %v", err)
	}
}
