// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

// client is the client's side of a process's streams: FIFOs, as containerd
// makes them.
type client struct {
	*Pod
	process.Stdio
	stdin   *os.File
	readers sync.WaitGroup
	closers []*os.File      // what keeps the outputs from having an end yet
	out     strings.Builder // stdout, whole once finish has returned; Pod.mu guards it
	err     strings.Builder
}

// client makes FIFOs of these names and reads the outputs to their ends.
func (r *Pod) client(name string, terminal bool) *client {
	r.Helper()
	c := &client{Pod: r, Stdio: process.Stdio{Terminal: terminal}}
	c.Stdin = r.fifo(name + ".in")
	c.Stdout = r.fifo(name + ".out")
	c.collect(c.Stdout, &c.out)
	if !terminal {
		c.Stderr = r.fifo(name + ".err")
		c.collect(c.Stderr, &c.err)
	}
	// Both ways, so that the open does not wait for the other side.
	in, err := os.OpenFile(c.Stdin, os.O_RDWR|unix.O_NONBLOCK, 0)
	r.must(err)
	c.stdin = in
	r.Cleanup(func() { c.stdin.Close() })
	return c
}

func (r *Pod) fifo(name string) string {
	r.Helper()
	path := filepath.Join(r.dir, name)
	r.must(unix.Mkfifo(path, 0o600))
	return path
}

// reader opens an output FIFO: as long as nobody has it open for writing there
// is no end of it, so one writer is held until the process has its own.
func (r *Pod) reader(path string) *os.File {
	r.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	r.must(err)
	r.Cleanup(func() { f.Close() })
	return f
}

func (c *client) collect(path string, into *strings.Builder) {
	c.Helper()
	f := c.reader(path)
	hold, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	c.must(err)
	c.readers.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := f.Read(buf)
			c.mu.Lock()
			into.Write(buf[:n])
			c.mu.Unlock()
			if err != nil { // what did not come is missed by the test
				return
			}
		}
	})
	c.Cleanup(func() { hold.Close() })
	c.closers = append(c.closers, hold)
}

// finish returns once the ends of the outputs have come. The pod must have let
// go of them.
func (c *client) finish() {
	c.Helper()
	for _, f := range c.closers {
		f.Close()
	}
	done := make(chan struct{})
	go func() {
		c.readers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
		c.Fatal("the output has no end")
	}
}

// sofar is what has come of stdout.
func (c *client) sofar() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// drain counts what comes of an output.
func (r *Pod) drain(f *os.File) <-chan int64 {
	n := make(chan int64, 1)
	go func() {
		got, _ := io.Copy(io.Discard, f)
		n <- got
	}()
	return n
}

// until returns once something is so. It is for what nobody tells of.
func (r *Pod) until(what string, so func() bool) {
	r.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("waited in vain until %s", what)
		}
	}
}
