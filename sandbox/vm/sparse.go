// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	page = 4 << 10
	// copyAtOnce is enough for the system calls not to count, and no more than
	// a cache holds.
	copyAtOnce = 256 << 10
)

var zeroes [page]byte

// copyMemory copies to an empty file what there is in another: neither holes,
// nor pages of zeroes, which a file without them has as well.
func copyMemory(to, from *os.File) error {
	buf := make([]byte, copyAtOnce)
	for at := int64(0); ; {
		begin, end, err := extent(from, at)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for the template's memory: %w", err)
		}
		for at = begin; at < end; {
			n, err := from.ReadAt(buf[:min(copyAtOnce, end-at)], at)
			if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
				return fmt.Errorf("read the template's memory: %w", err)
			}
			if err := writePages(to, buf[:n], at); err != nil {
				return fmt.Errorf("copy the template's memory: %w", err)
			}
			at += int64(n)
		}
	}
}

// extent finds data at or after an offset (lseek(2), SEEK_DATA). The offset of
// the descriptor, which others may have too, is of no use to anybody.
func extent(f *os.File, at int64) (begin, end int64, err error) {
	if begin, err = f.Seek(at, unix.SEEK_DATA); err != nil {
		return 0, 0, err
	}
	end, err = f.Seek(begin, unix.SEEK_HOLE)
	return begin, end, err
}

// writePages writes the runs of pages that are not all zeroes.
func writePages(to *os.File, data []byte, at int64) error {
	for len(data) > 0 {
		n := 0
		for n < len(data) && !blank(data[n:]) {
			n += page
		}
		n = min(n, len(data))
		if n == 0 {
			n = min(page, len(data))
		} else if _, err := to.WriteAt(data[:n], at); err != nil {
			return err
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}

// blank is true if the first page is all zeroes.
func blank(data []byte) bool {
	n := min(page, len(data))
	return bytes.Equal(data[:n], zeroes[:n])
}
