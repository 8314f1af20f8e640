// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"cmp"
	"slices"
)

// Entry is one library that a cache knows.
type Entry struct {
	Soname, Path string
	ABI          ABI    // all flags, also those that no constant here names
	OSVersion    uint32 // ignored since glibc 2.36
	Hwcap        uint64 // bits of the processor, or an index of names (glibc-hwcaps)
}

// Cache is the content of an ld.so.cache. The zero Cache is an empty one.
type Cache struct {
	Entries  []Entry // in the loader's order
	sections []section
}

// section is one extension of the cache (glibc 2.33 and newer), such as the names
// of the glibc-hwcaps directories or the version of the ldconfig that wrote it.
type section struct {
	tag, flags uint32
	data       string
	names      []string // of tagHwcaps, whose data are offsets of these
}

// Lookup returns the entries for a soname, of every ABI, in the loader's order.
func (c *Cache) Lookup(soname string) []Entry {
	var found []Entry
	for _, e := range c.Entries {
		if e.Soname == soname {
			found = append(found, e)
		}
	}
	return found
}

// Merge puts entries before those that have the same soname and ABI. No other
// entry is lost. The loader takes the first that suits it: also one without hwcap
// that comes before those with.
func (c *Cache) Merge(entries []Entry) {
	known := make(map[Entry]bool, len(entries))
	merged := slices.Clone(entries)
	for _, e := range entries {
		known[e] = true
	}
	for _, e := range c.Entries {
		if !known[e] {
			merged = append(merged, e)
		}
	}
	c.Entries = merged
	c.sort()
}

// sort brings the entries into the order in which the loader searches by halves:
// sonames descending, then flags descending; the rest keeps its order.
func (c *Cache) sort() {
	if !slices.IsSortedFunc(c.Entries, order) { // as one that was read is
		slices.SortStableFunc(c.Entries, order)
	}
}

func order(a, b Entry) int {
	if o := compareSonames(b.Soname, a.Soname); o != 0 {
		return o
	}
	return cmp.Compare(int32(b.ABI), int32(a.ABI)) // flags are a signed number to ldconfig
}

// compareSonames is the loader's order (_dl_cache_libcmp): by byte, but runs of
// digits by their value, and a digit after anything that is none.
func compareSonames(a, b string) int {
	for a != "" && b != "" {
		switch {
		case digit(a) && digit(b):
			var x, y uint32
			x, a = leadingNumber(a)
			y, b = leadingNumber(b)
			if x != y {
				return cmp.Compare(int32(x), int32(y))
			}
		case digit(a) != digit(b):
			if digit(a) {
				return 1
			}
			return -1
		case a[0] != b[0]:
			return cmp.Compare(a[0], b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	return cmp.Compare(len(a), len(b))
}

func digit(s string) bool { return s[0] >= '0' && s[0] <= '9' }

// leadingNumber takes the number off s; it overflows as the loader's int does.
func leadingNumber(s string) (n uint32, rest string) {
	for s != "" && digit(s) {
		n, s = n*10+uint32(s[0]-'0'), s[1:]
	}
	return n, s
}
