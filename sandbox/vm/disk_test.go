// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// diskImage is a file for a disk, that only root can open.
func diskImage(t *testing.T, content string) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "disk"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	return f
}

// forReading is the same file, open for that alone.
func forReading(t *testing.T, f *os.File) *os.File {
	t.Helper()
	f, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestDisk(t *testing.T) {
	r := newRig(t)
	g := r.up(r.config())
	file := diskImage(t, "first")
	const serial = "0123456789abcdefghijklmnopqrstuvwxyz" // the longest
	begin := time.Now()
	if err := g.AddDisk(r.ctx, Disk{Serial: serial, File: file}); err != nil {
		t.Fatal(err)
	}
	t.Logf("added in %v", time.Since(begin))
	name := g.disk(serial)
	t.Logf("seen as %s after %v", name, time.Since(begin))
	if got := g.do("read", "/dev/"+name); got[:5] != "first" {
		t.Errorf("the guest reads %q", got[:5])
	}

	if err := g.AddDisk(r.ctx, Disk{Serial: serial, File: file}); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("a second disk of that serial number: %v", err)
	}
	readOnly := forReading(t, diskImage(t, "second"))
	if err := g.AddDisk(r.ctx, Disk{Serial: "b", File: readOnly, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	second := g.disk("b")
	if got := g.do("read", "/sys/block/"+second+"/ro"); got != "1\n" {
		t.Errorf("the guest may write to a read-only disk: %q", got)
	}

	g.do("write", "/sys/block/"+name+"/device/delete", "1")
	begin = time.Now()
	if err := g.RemoveDisk(r.ctx, serial); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed in %v", time.Since(begin))
	if err := g.RemoveDisk(r.ctx, serial); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("it was removed again: %v", err)
	}
	// The serial number is free again.
	if err := g.AddDisk(r.ctx, Disk{Serial: serial, File: file}); err != nil {
		t.Fatal(err)
	}
	g.disk(serial)
}

// A disk that begins as an image of some format, with a file of the host's as what
// the image builds on, as a guest can have it begin, is its bytes and nothing else:
// what a disk's content is is not guessed (CVE-2008-2004; CVE-2026-24054 of
// directories).
func TestDiskIsNotProbed(t *testing.T) {
	r := newRig(t)
	g := r.up(r.config())
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("secret"), 1<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	header := qcow2(secret)
	if err := g.AddDisk(r.ctx, Disk{Serial: "a", File: diskImage(t, header)}); err != nil {
		t.Fatal(err)
	}
	if got := g.do("read", "/dev/"+g.disk("a")); len(got) != 1<<20 || got[:len(header)] != header {
		t.Errorf("the disk has %d bytes, and begins with %.40q", len(got), got)
	}
}

// qcow2 is the header of an image that has nothing of its own
// (docs/interop/qcow2.txt of QEMU).
func qcow2(backing string) string {
	header := binary.BigEndian.AppendUint32([]byte("QFI\xfb"), 2)
	header = binary.BigEndian.AppendUint64(header, 72) // where the name is
	header = binary.BigEndian.AppendUint32(header, uint32(len(backing)))
	header = binary.BigEndian.AppendUint32(header, 16)      // 64 KiB a cluster
	header = binary.BigEndian.AppendUint64(header, 4<<10)   // its size
	header = binary.BigEndian.AppendUint32(header, 0)       // not encrypted
	header = binary.BigEndian.AppendUint32(header, 1)       // entries of the first table
	header = binary.BigEndian.AppendUint64(header, 64<<10)  // the first table
	header = binary.BigEndian.AppendUint64(header, 128<<10) // the table of reference counts
	header = binary.BigEndian.AppendUint32(header, 1)
	header = binary.BigEndian.AppendUint32(header, 0) // no snapshots
	header = binary.BigEndian.AppendUint64(header, 0)
	return string(header) + backing
}

// disk waits until the guest has the disk of that serial number.
func (g *guestOf) disk(serial string) string {
	g.Helper()
	for g.ctx.Err() == nil {
		if name := g.do("disk", serial); name != "" {
			return name
		}
	}
	g.Fatalf("the guest has no disk %s", serial)
	return ""
}

func TestManyDisks(t *testing.T) {
	r := newRig(t)
	g := r.up(r.config())
	file := forReading(t, diskImage(t, "many"))
	const many = 40 // more than there are virtio-mmio transports, and letters
	for i := range many {
		if err := g.AddDisk(r.ctx, Disk{Serial: fmt.Sprintf("disk%d", i), File: file, ReadOnly: true}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		g.disk(fmt.Sprintf("disk%d", i))
	}
}

func TestDiskSaysWhatIsWrong(t *testing.T) {
	r := newRig(t)
	g := r.up(r.config())
	closed := diskImage(t, "")
	_ = closed.Close()
	directory, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	for name, d := range map[string]Disk{
		"no serial number":       {Serial: "", File: diskImage(t, "")},
		"a serial number with /": {Serial: "a/b", File: diskImage(t, "")},
		"a long serial number":   {Serial: string(bytes.Repeat([]byte("a"), 37)), File: diskImage(t, "")},
		"a closed file":          {Serial: "a", File: closed},
		"a directory":            {Serial: "a", File: directory, ReadOnly: true},
		"a file not to write to": {Serial: "a", File: forReading(t, diskImage(t, ""))},
		"a file to write to":     {Serial: "a", File: diskImage(t, ""), ReadOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := g.AddDisk(r.ctx, d); err == nil {
				t.Error("it was added")
			} else if strings.HasPrefix(name, "a file ") && !strings.Contains(err.Error(), "must be open for ") {
				t.Errorf("it was left to QEMU to say: %v", err)
			}
		})
	}
	// Nothing of those that failed is left.
	if err := g.AddDisk(r.ctx, Disk{Serial: "a", File: diskImage(t, "")}); err != nil {
		t.Error(err)
	}
}
