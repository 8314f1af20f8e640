// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

const burstSize = 8 << 20

// burstSum is the checksum of what "payload burst" writes.
func burstSum() [sha256.Size]byte {
	data := make([]byte, burstSize)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return sha256.Sum256(data)
}

// A process writes 8 MiB and exits at once: all of it is with the reader when
// Delete returns, for a FIFO, a file and both kinds of logger.
func TestBurstIsComplete(t *testing.T) {
	t.Run("fifo", func(t *testing.T) {
		h := newHost(t)
		path, reader, err := h.Pipe(h.ctx, "out", syscall.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		done := make(chan error, 1)
		go func() { _, err := io.Copy(&got, reader); done <- err }()
		burst(h, path)
		if err := <-done; err != nil { // its last writer is gone, since Delete has returned
			t.Error(err)
		}
		reader.Close()
		checkBurst(t, got.Bytes())
	})
	t.Run("file", func(t *testing.T) {
		h := newHost(t)
		burst(h, "file://"+h.Dir+"/out")
		checkFile(t, h)
	})
	for scheme, verb := range map[string]string{"binary": "logger", "binary-v2": "logger-v2"} {
		t.Run(scheme, func(t *testing.T) {
			h := newHost(t)
			burst(h, fmt.Sprintf("%s://%s?%s=%s/out", scheme, *payloadFlag, verb, h.Dir))
			checkFile(t, h)
		})
	}
}

// output gives stdout and, as containerd always does with it, a stderr of the
// same kind.
func (h *host) output(stdout string) daemon.Streams {
	h.t.Helper()
	if strings.Contains(stdout, "://") {
		return daemon.Streams{Stdout: stdout, Stderr: stdout}
	}
	stderr, stop, err := h.Discard(h.ctx, "err")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { stop() })
	return daemon.Streams{Stdout: stdout, Stderr: stderr}
}

// burst runs a container to its end with stdout as given.
func burst(h *host, stdout string) {
	h.t.Helper()
	c := h.prepare("c", "", nil, "burst", strconv.Itoa(burstSize), "3")
	if err := c.create(h.output(stdout)); err != nil {
		h.t.Fatalf("create: %v", err)
	}
	if err := c.start(); err != nil {
		h.t.Fatalf("start: %v", err)
	}
	if status, err := c.wait(""); err != nil || status != 3 {
		h.t.Errorf("wait: status %d, error %v; want 3", status, err)
	}
	if _, err := c.delete(""); err != nil {
		h.t.Errorf("delete: %v", err)
	}
	c.leave()
}

func checkFile(t *testing.T, h *host) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(h.Dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	checkBurst(t, got)
}

func checkBurst(t *testing.T, got []byte) {
	t.Helper()
	if len(got) != burstSize || sha256.Sum256(got) != burstSum() {
		t.Errorf("%d bytes arrived of %d, or not the right ones", len(got), burstSize)
	}
}

// Nobody empties a container's stdout, because the reader left or sleeps. Its
// exit, its other exec and its deletion come through all the same.
func TestStuckReader(t *testing.T) {
	for _, name := range []string{"gone", "asleep"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			path, reader, err := h.Pipe(h.ctx, "out", syscall.O_RDONLY)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			c := h.prepare("c", "", nil, "spam")
			if err := c.create(h.output(path)); err != nil {
				t.Fatalf("create: %v", err)
			}
			if err := c.start(); err != nil {
				t.Fatalf("start: %v", err)
			}
			if _, err := io.ReadFull(reader, make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
			if name == "gone" {
				reader.Close()
			}
			checkUnhindered(c)
			c.leave()
		})
	}
}

func checkUnhindered(c *container) {
	c.t.Helper()
	if _, err := c.exec("e", noStreams, "exit", "5"); err != nil {
		c.t.Errorf("exec: %v", err)
	} else if status, err := c.wait("e"); err != nil || status != 5 {
		c.t.Errorf("wait for the exec: status %d, error %v", status, err)
	}
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if err := c.kill(unix.SIGKILL); err != nil {
		c.t.Errorf("kill: %v", err)
	}
	if _, err := c.Events.Await(ctx, 2, exits); err != nil {
		c.t.Errorf("exits: %v", err)
	}
	if _, err := c.delete(""); err != nil {
		c.t.Errorf("delete: %v", err)
	}
}

// CloseIO ends the process's stdin after what was written to it.
func TestStdinCloses(t *testing.T) {
	h := newHost(t)
	in, writer, err := h.Pipe(h.ctx, "in", syscall.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	out, reader, err := h.Pipe(h.ctx, "out", syscall.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	c := h.prepare("c", "", nil, "cat")
	streams := h.output(out)
	streams.Stdin = in
	if err := c.create(streams); err != nil {
		t.Fatalf("create: %v", err)
	}
	if err := c.start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	if _, err := writer.Write([]byte("ship")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "ship" {
		t.Fatalf("read %q, error %v", got, err)
	}
	// A client detaches and another attaches: stdin stays open between them.
	writer.Close()
	if _, writer, err = h.Pipe(h.ctx, "in", syscall.O_WRONLY); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte("port")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "port" {
		t.Fatalf("read %q after the second attach, error %v", got, err)
	}
	writer.Close()
	if _, err := c.shim.Task.CloseIO(h.ctx, &task.CloseIORequest{ID: "c", Stdin: true}); err != nil {
		t.Errorf("close stdin: %v", err)
	}
	if status, err := c.wait(""); err != nil || status != 0 {
		t.Errorf("wait: status %d, error %v", status, err)
	}
	if _, err := c.delete(""); err != nil {
		t.Errorf("delete: %v", err)
	}
	c.leave()
}
