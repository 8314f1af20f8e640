// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newLog(t *testing.T) (*logFIFO, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

// drain reads all that is in the FIFO now.
func drain(t *testing.T, path string) string {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	var all []byte
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}

func TestLogSurvivesReaders(t *testing.T) {
	l, path := newLog(t)
	write := func(s string) {
		t.Helper()
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	write("before anyone reads\n")
	if got := drain(t, path); got != "before anyone reads\n" {
		t.Errorf("the first reader got %q", got)
	}
	write("between two readers\n") // the first has closed it
	if got := drain(t, path); got != "between two readers\n" {
		t.Errorf("the second reader got %q", got)
	}
}

func TestLogNeverBlocks(t *testing.T) {
	l, path := newLog(t)
	line := bytes.Repeat([]byte("x"), 999)
	line = append(line, '\n')
	const lines = 1000 // a FIFO takes 64 KiB
	for range lines {
		if n, err := l.Write(line); n != len(line) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	kept := drain(t, path)
	if len(kept) == 0 || len(kept)%len(line) != 0 {
		t.Errorf("%d bytes were kept, not a number of lines", len(kept))
	}
	if _, err := l.Write([]byte("after\n")); err != nil {
		t.Fatal(err)
	}
	want := "msg=\"containerd did not read the log: "
	got := drain(t, path)
	if !strings.Contains(got, want) || !strings.HasSuffix(got, " bytes were dropped\"\nafter\n") {
		t.Errorf("after the reader came back: %q", got)
	}
	if _, err := l.Write([]byte("last\n")); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, path); got != "last\n" {
		t.Errorf("told twice: %q", got)
	}
}

func TestLogThatIsNoFIFO(t *testing.T) {
	dir := t.TempDir()
	if _, err := openLog(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file: %v", err)
	}
}

func TestLogAfterClose(t *testing.T) {
	l, _ := newLog(t)
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// TestShimLog has a real shim write to its log, and dump its stacks there.
func TestShimLog(t *testing.T) {
	n := newNode(t)
	cmd := n.command("ns", "c1", n.bundle(""))
	cmd.Args = append(cmd.Args[:1], append([]string{"-debug"}, cmd.Args[1:]...)...)
	stdout, stderr, err := run(cmd)
	if err != nil {
		t.Fatalf("%v; %s", err, stderr)
	}
	pid := n.pid(socketOf(parseReply(t, stdout)))
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(filepath.Join(cmd.Dir, "log"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fifo.Close() }()
	var text strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(text.String(), "=== END goroutine stack dump ===") {
		n, err := fifo.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(buf[:n])
	}
	for _, want := range []string{"level=info msg=serving namespace=ns", "=== BEGIN", "shim.serveLines", "shim.dumpStacks"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, text.String())
		}
	}
}

// TestStackDumpWaitsForReader dumps more than a FIFO holds to a reader that
// begins to read in the middle of it.
func TestStackDumpWaitsForReader(t *testing.T) {
	l, path := newLog(t)
	text := []byte(strings.Repeat(strings.Repeat("y", 99)+"\n", 3000))
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fifo.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		writeChunks(l, text)
	}()
	got := make([]byte, 0, len(text))
	for len(got) < len(text) {
		n, err := fifo.Read(got[len(got):cap(got)])
		if err != nil {
			t.Fatal(err)
		}
		got = got[:len(got)+n]
	}
	<-done
	if !bytes.Equal(got, text) {
		t.Error("the dump was changed")
	}
}

// The log of a shim for many pods goes on by the bundle of one that is there.
func TestLogFollows(t *testing.T) {
	l, first := newLog(t)
	bare, second := t.TempDir(), t.TempDir()
	next := filepath.Join(second, "log")
	if err := unix.Mkfifo(next, 0o600); err != nil {
		t.Fatal(err)
	}
	hold, err := os.OpenFile(next, os.O_RDWR|unix.O_NONBLOCK, 0) // what is written stays
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Close() }()
	l.follow([]string{bare, filepath.Dir(first), second})
	_, _ = l.Write([]byte("one\n"))
	if got := drain(t, first); got != "one\n" {
		t.Errorf("the first log has %q", got)
	}
	l.follow([]string{bare, second})
	_, _ = l.Write([]byte("two\n"))
	if got := drain(t, next); got != "two\n" {
		t.Errorf("the second log has %q", got)
	}
	l.follow([]string{bare}) // which has none: it stays
	_, _ = l.Write([]byte("three\n"))
	if got := drain(t, next); got != "three\n" {
		t.Errorf("the second log has %q", got)
	}
	if err := os.Remove(next); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(next, 0o600); err != nil {
		t.Fatal(err)
	}
	l.follow([]string{second}) // another bundle of that name
	_, _ = l.Write([]byte("four\n"))
	if got := drain(t, next); got != "four\n" {
		t.Errorf("the log of a new bundle of that name has %q", got)
	}
}
