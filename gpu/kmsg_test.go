// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kmsgFIFO is a FIFO in the log's place, and its writer. O_DIRECT keeps each
// write a packet (pipe(7)), so that a read gets one record, as from the log.
func kmsgFIFO(t *testing.T) (string, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0) // needs no reader
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_DIRECT); err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { w.Close() })
	return path, w
}

// runKmsg runs a reader until the test ends; stop cancels it and returns what
// Run did.
func runKmsg(t *testing.T, path string) (xids chan Xid, stop func() error) {
	t.Helper()
	k, err := OpenKmsg(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	xids = make(chan Xid)
	done := make(chan error, 1)
	go func() {
		done <- k.Run(ctx, func(x Xid) {
			select {
			case xids <- x:
			case <-ctx.Done():
			}
		})
		close(done)
	}()
	stop = func() error { cancel(); return <-done }
	t.Cleanup(func() { _ = stop() })
	return xids, stop
}

func TestKmsgReadsRecords(t *testing.T) {
	path, w := kmsgFIFO(t)
	xids, stop := runKmsg(t, path)
	for i := range 3 {
		for _, record := range []string{
			"6,1,1,-;usb 1-1: new device\n SUBSYSTEM=usb\n",
			"12,2,1,-;" + xid79 + "\n", // forged
			fmt.Sprintf("4,%d,1,-;%s\n", 10+i, xid79),
		} {
			if _, err := w.WriteString(record); err != nil {
				t.Fatal(err)
			}
		}
		if x := <-xids; x.Seq != uint64(10+i) || x.Number != 79 || x.At.IsZero() {
			t.Errorf("got %+v", x)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("canceled: %v", err)
	}
	if n := strings.Count(openFiles(t), path); n != 1 {
		t.Errorf("%d descriptors of the FIFO are open; the writer has one", n)
	}
}

func openFiles(t *testing.T) string {
	var names []string
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, _ := os.Readlink("/proc/self/fd/" + e.Name())
		names = append(names, name)
	}
	return strings.Join(names, "\n")
}

// Waiting takes no thread: a read in the kernel would.
func TestKmsgWaitsInThePoller(t *testing.T) {
	path, _ := kmsgFIFO(t)
	k, err := OpenKmsg(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.f.SetReadDeadline(time.Now()); err != nil {
		t.Errorf("the descriptor is not in the poller: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

func TestKmsgEnds(t *testing.T) {
	path, w := kmsgFIFO(t)
	w.Close()
	k, err := OpenKmsg(path) // does not wait for a writer
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Run(t.Context(), nil); !errors.Is(err, io.EOF) {
		t.Errorf("without writers: %v", err)
	}
	if _, err := OpenKmsg(path + "-not"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a log: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("4,1,1,-;"+xid79), 0o600); err != nil {
		t.Fatal(err)
	}
	if k, err = OpenKmsg(file); err != nil {
		t.Fatal(err)
	}
	if err := k.Run(t.Context(), func(x Xid) { t.Errorf("what was there before counts: %+v", x) }); !errors.Is(err, io.EOF) {
		t.Errorf("a file: %v", err)
	}
}

// The kernel's own log: it can be waited for, it gives one record to a read,
// begins at the end, and marks what a process writes, also where that says
// otherwise.
func TestKmsgOfTheKernel(t *testing.T) {
	w, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("the kernel's log cannot be written: %v", err)
	}
	defer w.Close()
	k, err := OpenKmsg("/dev/kmsg")
	if err != nil {
		t.Skipf("the kernel's log cannot be read: %v", err)
	}
	defer k.Close()
	mark := fmt.Sprintf(", berth test %d", os.Getpid())
	for _, text := range []string{"<0>" + xid79 + mark, "<4>line\nNVRM: Xid (PCI:0000:3b:00): 79, x" + mark} {
		// A record without a newline is not readable before the next one.
		if _, err := w.WriteString(text + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.f.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // against a hang
		t.Fatalf("the log is not in the poller: %v", err)
	}
	buf := make([]byte, kmsgBuffer)
	for seen := 0; seen < 2; {
		n, err := k.f.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if record := string(buf[:n]); strings.Contains(record, mark) {
			seen++
			if strings.Count(record, "\n") != 1 || strings.HasPrefix(record, "0,") || strings.HasPrefix(record, "4,") {
				t.Errorf("a process's record is %q", record)
			}
			if x, ok := ParseXid(buf[:n]); ok {
				t.Errorf("%q counts as %+v", record, x)
			}
		}
	}
	_, stop := runKmsg(t, "/dev/kmsg")
	if err := stop(); err != nil {
		t.Errorf("canceled: %v", err)
	}
}
