// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
)

// Types of file in a mode (inode(7)).
const (
	modeRegular = 0o100000
	modeDir     = 0o040000
	modeChar    = 0o020000
)

// file is one entry of an initramfs.
type file struct {
	path         string // without a leading /
	mode         uint32
	major, minor uint32 // of a device
	data         []byte
}

// writeCPIO writes an archive of the form newc, the one that the kernel
// unpacks (Documentation/driver-api/early-userspace/buffer-format.rst). Entries
// are sorted, so that a directory precedes what is in it; owners and times are 0.
func writeCPIO(w io.Writer, files []file) error {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	a := &archive{w: bufio.NewWriterSize(w, 1<<20)}
	for i, f := range files {
		a.entry(uint32(i+1), f)
	}
	a.entry(0, file{path: "TRAILER!!!"})
	return a.w.Flush()
}

type archive struct {
	w *bufio.Writer // keeps the first error for Flush
}

func (a *archive) entry(inode uint32, f file) {
	links := uint32(1)
	if f.mode&modeDir != 0 {
		links = 2
	}
	const magic = "070701"
	_, _ = fmt.Fprintf(a.w, "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", magic,
		inode, f.mode, 0 /* uid */, 0 /* gid */, links, 0 /* mtime */, len(f.data),
		0, 0 /* device of the file system */, f.major, f.minor, len(f.path)+1, 0 /* checksum */)
	_, _ = a.w.WriteString(f.path + "\x00")
	a.pad(len(magic) + 13*8 + len(f.path) + 1)
	_, _ = a.w.Write(f.data)
	a.pad(len(f.data))
}

// pad aligns what follows to 4 bytes.
func (a *archive) pad(written int) {
	for ; written%4 != 0; written++ {
		_ = a.w.WriteByte(0)
	}
}
