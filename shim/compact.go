// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"io"
)

// compactAt is how much a journal may hold of what was delivered, in bytes,
// before that is worth a copy of the rest.
const compactAt = 64 << 10

// compactable tells whether the records that are not delivered go in the place
// of those that are. A journal is so never larger than twice what is not
// delivered, and compactAt.
func (j *journal) compactable() bool {
	delivered := j.head - headerSize
	return delivered >= compactAt && delivered > j.tail-j.head
}

// compact copies the records that are not delivered to the front of the file,
// which has room for them: also on a full disk. Until reset has cut off the
// originals the mark leads to them, and from then on it leads past the end,
// which means that nothing is marked: a process that dies in between leaves
// them all, and none twice.
func (j *journal) compact() error {
	delivered := j.head - headerSize
	from := io.NewSectionReader(j.file, j.head, j.tail-j.head)
	if _, err := io.Copy(io.NewOffsetWriter(j.file, headerSize), from); err != nil {
		return fmt.Errorf("compact the event journal: %w", err)
	}
	j.head -= delivered
	j.tail -= delivered
	j.inherited = max(j.inherited-delivered, 0)
	return nil
}
