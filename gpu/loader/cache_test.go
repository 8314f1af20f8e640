// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// The host's cache was written by its ldconfig: it is the oracle for the order.
func TestOrderIsLdconfigs(t *testing.T) {
	data, err := os.ReadFile(cachePath)
	if err != nil {
		t.Skipf("needs a host with glibc's cache: %v", err)
	}
	c, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(c.Entries)
	slices.Reverse(c.Entries) // a stable sort must have something to do
	c.sort()
	for i, e := range c.Entries {
		if e.Soname != before[i].Soname {
			t.Fatalf("entry %d is %s, ldconfig has %s there", i, e.Soname, before[i].Soname)
		}
	}
	c.Entries = before
	if again, err := c.Encode(); err != nil {
		t.Fatal(err)
	} else if d, err := Parse(again); err != nil || !reflect.DeepEqual(d.Entries, before) || len(d.sections) != len(c.sections) {
		t.Fatalf("encoded: %v", err)
	}
	if found := c.Lookup("libc.so.6"); len(found) == 0 || !filepath.IsAbs(found[0].Path) {
		t.Errorf("libc.so.6: %v", found)
	}
}

func TestCompareSonames(t *testing.T) {
	ascending := []string{"", "lib.so", "libA.so", "liba.so", "liba1.so", "liba9.so", "liba10.so", "libb.so", "libb.so.1", "libb.so.1.2", "libb.so.1.10", "libb.so.2"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := compareSonames(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%q to %q: %d", a, b, got)
			}
		}
	}
	if compareSonames("a01b", "a1b") != 0 || compareSonames("a99999999999", "a1") == 0 {
		t.Error("numbers count by their value")
	}
}

func TestMergeWinsAndLosesNothing(t *testing.T) {
	c := &Cache{Entries: []Entry{
		{"libx.so.1", "/opt/hw/libx.so.1", X8664, 0, 1 << 62},
		{"libx.so.1", "/opt/libx.so.1", X8664, 0, 0},
		{"libx.so.1", "/opt32/libx.so.1", I386, 0, 0},
	}}
	for range 2 {
		c.Merge([]Entry{{"libx.so.1", "/ours/libx.so.1", X8664, 0, 0}, {"liba.so.1", "/ours/liba.so.1", X8664, 0, 0}})
		var got []string
		for _, e := range c.Entries {
			got = append(got, e.Path)
		}
		want := "/ours/libx.so.1 /opt/hw/libx.so.1 /opt/libx.so.1 /opt32/libx.so.1 /ours/liba.so.1"
		if strings.Join(got, " ") != want {
			t.Errorf("order %v", got)
		}
	}
}

// sample is a cache with all that the format has.
func sample(t testing.TB) []byte {
	c := &Cache{
		Entries: []Entry{{"libb.so.1", "/lib/libb.so.1", X8664, 7, 1<<62 | 1}, {"liba.so.1", "/lib/liba.so.1", I386, 0, 0}},
		sections: []section{{tag: 0, data: "generator"}, {tag: tagHwcaps, names: []string{"x86-64-v2", "x86-64-v3"}},
			{tag: 77, flags: 5, data: "unknown"}},
	}
	data, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range d.sections {
		if s.tag != c.sections[i].tag || s.flags != c.sections[i].flags || !slices.Equal(s.names, c.sections[i].names) {
			t.Fatalf("section %d: %+v", i, s)
		}
	}
	if !slices.Equal(d.Entries, c.Entries) || d.sections[0].data != "generator" || d.sections[2].data != "unknown" {
		t.Fatalf("parsed: %+v", d)
	}
	return data
}

func TestParseRefusesWhatIsBroken(t *testing.T) {
	good := sample(t)
	put := func(at int, v uint32) []byte {
		return binary.LittleEndian.AppendUint32(slices.Clone(good[:at]), v)
	}
	change := func(at int, v uint32) []byte { return append(put(at, v), good[at+4:]...) }
	ext := int(binary.LittleEndian.Uint32(good[32:]))
	for name, data := range map[string][]byte{
		"empty":               nil,
		"no magic":            []byte("\x7fELF"),
		"header cut off":      good[:40],
		"too large":           append(slices.Clone(good), make([]byte, MaxCache)...),
		"version":             bytes.Replace(good, []byte("cache1.1"), []byte("cache1.2"), 1),
		"big endian":          change(28, 3),
		"count":               change(20, 3_000_000_000),
		"count by one":        change(20, uint32(len(good)/sizeNew)),
		"soname beyond":       change(52, uint32(len(good))),
		"path beyond":         change(56, 0xffffffff),
		"extension beyond":    change(32, uint32(len(good))),
		"extension unaligned": change(32, uint32(ext+1)),
		"extension magic":     change(ext, 1),
		"extension count":     change(ext+4, 0x10000000),
		"section beyond":      change(ext+sizeExt+8, uint32(len(good))),
		"section size":        change(ext+sizeExt+12, 0xffffffff),
		"hwcaps size":         change(ext+sizeExt+sizeSect+12, 3),
		"no NUL":              append(slices.Clone(change(52, uint32(len(good)))), strings.Repeat("x", 5000)...),
		"old header cut off":  []byte(magicOld),
		"old count":           []byte(magicOld + "\x00\xff\xff\xff\xff"),
		"old string":          []byte(magicOld + "\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
	} {
		if _, err := Parse(data); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(good); err != nil {
		t.Error(err)
	}
}

// Strings that overlap make a small file of what would be a huge one.
func TestEncodeIsBounded(t *testing.T) {
	c := &Cache{}
	long := strings.Repeat("x", maxString)
	for i := range 10_000 {
		c.Entries = append(c.Entries, Entry{Soname: long[i%maxString:], Path: "/" + string(rune(i)) + long})
	}
	if _, err := c.Encode(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("encode: %v", err)
	}
}

func FuzzCache(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(magicOld + "\x00\x01\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00a\x00/a\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		old := slices.Clone(c.Entries)
		ours := Entry{Soname: "libcuda.so.1", Path: "/d/libcuda.so.1", ABI: X8664}
		c.Merge([]Entry{ours})
		out, err := c.Encode()
		if err != nil {
			return // too large
		}
		d, err := Parse(out)
		if err != nil {
			t.Fatalf("what was encoded does not parse: %v", err)
		}
		count := make(map[Entry]int)
		for _, e := range d.Entries {
			count[e]++
		}
		for _, e := range old {
			if count[e]--; count[e] < 0 && e != ours {
				t.Fatalf("lost %+v", e)
			}
		}
		for _, e := range d.Lookup(ours.Soname) {
			if e.ABI == ours.ABI {
				if e != ours {
					t.Fatalf("%+v comes first", e)
				}
				break
			}
		}
		if len(d.sections) != len(c.sections) {
			t.Fatal("sections were lost")
		}
		for i, s := range d.sections {
			if !slices.Equal(s.names, c.sections[i].names) || s.tag != tagHwcaps && s.data != c.sections[i].data {
				t.Fatalf("section %d: %+v, was %+v", i, s, c.sections[i])
			}
		}
	})
}

// debug/elf is the oracle for the host's libraries.
func TestReadLibrary(t *testing.T) {
	files, _ := filepath.Glob("/lib/*-linux-gnu/lib*.so*")
	more, _ := filepath.Glob("/lib*/lib*.so*")
	seen := 0
	for _, p := range append(files, more...) {
		want, err := elf.Open(p)
		if err != nil {
			continue // a linker script
		}
		sonames, err := want.DynString(elf.DT_SONAME)
		want.Close()
		if err != nil {
			continue
		}
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadLibrary(f)
		f.Close()
		if err != nil || got.Soname != strings.Join(sonames, "") || got.ABI != native(t).abi {
			t.Errorf("%s: %+v, %v; want %v", p, got, err, sonames)
		}
		seen++
	}
	if seen == 0 {
		t.Skip("needs a host with libraries in /lib")
	}
}

// elf32 is a shared library for i386, as little of it as is read.
func elf32() []byte {
	b := make([]byte, 52+2*32)
	copy(b, "\x7fELF\x01\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 3)
	le.PutUint16(b[18:], 3)
	le.PutUint32(b[28:], 52)
	le.PutUint16(b[44:], 2)
	text, size := uint32(len(b)), uint32(24+8)
	for i, v := range []uint32{1, text, 0x1000, 0, size, 0, 0, 0, 2, text, 0x1000, 0, 24, 0, 0, 0} {
		le.PutUint32(b[52+4*i:], v)
	}
	for _, v := range []uint32{5, 0x1000 + 24, 14, 1, 0, 0} {
		b = le.AppendUint32(b, v)
	}
	return append(b, "\x00liba.so"...)
}

func TestReadLibraryOf32Bits(t *testing.T) {
	good := append(elf32(), 0)
	if lib, err := ReadLibrary(bytes.NewReader(good)); err != nil || lib.ABI != I386 || lib.Soname != "liba.so" {
		t.Errorf("%+v, %v", lib, err)
	}
	if _, err := ReadLibrary(bytes.NewReader(elf32())); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a soname without end: %v", err)
	}
	for n := range len(good) {
		if _, err := ReadLibrary(bytes.NewReader(good[:n])); !errdefs.IsInvalidArgument(err) {
			t.Errorf("cut off at %d: %v", n, err)
		}
	}
}

func FuzzReadLibrary(f *testing.F) {
	f.Add(append(elf32(), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		lib, err := ReadLibrary(bytes.NewReader(data))
		if err == nil && lib.Soname != "" && !plainName(lib.Soname) {
			t.Fatalf("soname %q", lib.Soname)
		}
	})
}
