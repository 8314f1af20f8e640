// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"fmt"

	"github.com/containerd/errdefs"
)

// stringTable collects the strings of a cache, each once.
type stringTable struct {
	base int // offset of the table in the file
	data []byte
	at   map[string]uint32
}

func (t *stringTable) offset(s string) uint32 {
	at, ok := t.at[s]
	if !ok {
		at = uint32(t.base + len(t.data))
		t.at[s] = at
		if t.base+len(t.data) <= MaxCache { // beyond it, Encode refuses in the end
			t.data = append(append(t.data, s...), 0)
		}
	}
	return at
}

// Encode writes the cache in the newer format, which every glibc since 2.2 reads.
// One that would be larger than MaxCache is refused: strings that overlap in a
// hostile cache do not overlap here.
func (c *Cache) Encode() ([]byte, error) {
	c.sort()
	le := binary.LittleEndian
	text := stringTable{base: headerNew + len(c.Entries)*sizeNew, at: make(map[string]uint32, 2*len(c.Entries))}
	table := make([]byte, 0, len(c.Entries)*sizeNew)
	for _, e := range c.Entries {
		table = le.AppendUint32(table, uint32(e.ABI))
		table = le.AppendUint32(table, text.offset(e.Soname))
		table = le.AppendUint32(table, text.offset(e.Path))
		table = le.AppendUint32(table, e.OSVersion)
		table = le.AppendUint64(table, e.Hwcap)
	}
	ext, rest := 0, []byte(nil)
	if len(c.sections) > 0 {
		contents := c.sectionData(&text)
		ext = aligned(text.base + len(text.data))
		rest = c.encodeSections(ext, contents)
	}
	if size := text.base + len(text.data) + len(rest); size > MaxCache {
		return nil, fmt.Errorf("write ld.so.cache: it would have more than %d bytes: %w", MaxCache, errdefs.ErrInvalidArgument)
	}
	out := append(make([]byte, 0, text.base+len(text.data)+len(rest)+4), magicNew+version...)
	out = le.AppendUint32(out, uint32(len(c.Entries)))
	out = le.AppendUint32(out, uint32(len(text.data)))
	out = le.AppendUint32(out, littleFlag)
	out = le.AppendUint32(out, uint32(ext))
	out = append(out, make([]byte, headerNew-len(out))...)
	out = append(append(out, table...), text.data...)
	if ext > 0 {
		out = append(append(out, make([]byte, ext-len(out))...), rest...)
	}
	return out, nil
}

// sectionData gives the content of each section; names of hwcaps become strings
// of the table, in their order, which the entries' hwcap counts on.
func (c *Cache) sectionData(text *stringTable) []string {
	var contents []string
	for _, s := range c.sections {
		data := s.data
		if s.tag == tagHwcaps {
			var offsets []byte
			for _, name := range s.names {
				offsets = binary.LittleEndian.AppendUint32(offsets, text.offset(name))
			}
			data = string(offsets)
		}
		contents = append(contents, data)
	}
	return contents
}

// encodeSections lays out the extensions for offset at of the file; it stops
// where they are beyond MaxCache.
func (c *Cache) encodeSections(at int, contents []string) []byte {
	le := binary.LittleEndian
	out := le.AppendUint32(le.AppendUint32(nil, magicExt), uint32(len(c.sections)))
	next := at + sizeExt + len(c.sections)*sizeSect
	var data []byte
	for i, s := range c.sections {
		out = le.AppendUint32(le.AppendUint32(out, s.tag), s.flags)
		out = le.AppendUint32(le.AppendUint32(out, uint32(next+len(data))), uint32(len(contents[i])))
		data = append(data, contents[i]...)
		data = append(data, make([]byte, aligned(len(data))-len(data))...)
		if len(data) > MaxCache {
			break
		}
	}
	return append(out, data...)
}

// aligned rounds up to the 4 bytes that extensions and their offsets need.
func aligned(n int) int { return (n + 3) &^ 3 }
