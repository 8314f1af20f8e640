// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"debug/elf"
	"encoding/binary"
	"strings"
)

// object is a shared object of x86: what ldconfig, a loader and debug/elf look at, and code
// for the symbols. Its image is one page that can be executed and, above it, the dynamic
// section, which glibc's loader writes to.
type object struct {
	bits    int // 32 or 64
	soname  string
	needed  []string
	symbols []symbol
}

type symbol struct {
	name string
	code []byte
}

// section is a part of the file, with what its header says of it.
type section struct {
	name        string
	kind        elf.SectionType
	flags       elf.SectionFlag
	link, entry int
	data        []byte
	offset      int
}

const (
	elfSegments = 4      // headers and code, dynamic section, PT_DYNAMIC, PT_GNU_STACK
	elfPage     = 0x1000 // the dynamic section lies a page above its place in the file
)

// Numbers of the sections, the null section first.
const (
	secHash = iota + 1
	secSymbols
	secStrings
	secText
	secDynamic
	secNames
	secCount
)

// bytes is the file.
func (o object) bytes() []byte {
	w := elfWriter{bits: o.bits}
	strs := newStringTable()
	soname := strs.add(o.soname)
	var needed []int
	for _, n := range o.needed {
		needed = append(needed, strs.add(n))
	}
	for _, s := range o.symbols {
		strs.add(s.name)
	}

	word, pick := o.bits/8, func(a, b int) int {
		if o.bits == 64 {
			return a
		}
		return b
	}
	s := [secCount]section{
		secHash:    {name: ".hash", kind: elf.SHT_HASH, flags: elf.SHF_ALLOC, link: secSymbols, entry: 4, data: o.hash()},
		secSymbols: {name: ".dynsym", kind: elf.SHT_DYNSYM, flags: elf.SHF_ALLOC, link: secStrings, entry: pick(24, 16)},
		secStrings: {name: ".dynstr", kind: elf.SHT_STRTAB, flags: elf.SHF_ALLOC, data: []byte(strs.String())},
		secText:    {name: ".text", kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, data: o.text()},
		secDynamic: {name: ".dynamic", kind: elf.SHT_DYNAMIC, flags: elf.SHF_ALLOC | elf.SHF_WRITE, link: secStrings, entry: 2 * word},
		secNames:   {name: ".shstrtab", kind: elf.SHT_STRTAB},
	}
	// The tables that hold addresses are filled in below; only their sizes count here.
	s[secSymbols].data = make([]byte, (len(o.symbols)+1)*s[secSymbols].entry)
	s[secDynamic].data = make([]byte, (len(needed)+7)*2*word)
	names := newStringTable()
	for i := range s {
		names.add(s[i].name)
	}
	s[secNames].data = []byte(names.String())
	end := pick(64, 52) + elfSegments*pick(56, 32)
	for i := range s {
		s[i].offset = (end + 15) &^ 15
		end = s[i].offset + len(s[i].data)
	}
	s[secSymbols].data = o.symbolTable(strs, s[secText].offset)
	s[secDynamic].data = o.dynamic(soname, needed, s[:])
	table := (end + 15) &^ 15

	w.header(elf.ET_DYN, 0, table, secCount)
	loaded := s[secText].offset + len(s[secText].data)
	dyn, size := s[secDynamic].offset, len(s[secDynamic].data)
	w.segment(elf.PT_LOAD, elf.PF_R|elf.PF_X, 0, 0, loaded, elfPage)
	w.segment(elf.PT_LOAD, elf.PF_R|elf.PF_W, dyn, dyn+elfPage, size, elfPage)
	w.segment(elf.PT_DYNAMIC, elf.PF_R|elf.PF_W, dyn, dyn+elfPage, size, word)
	w.segment(elf.PT_GNU_STACK, elf.PF_R|elf.PF_W, 0, 0, 0, 16)
	for i := range s[1:] {
		w.pad(s[i+1].offset)
		w.buf = append(w.buf, s[i+1].data...)
	}
	w.pad(table)
	w.section(section{}, 0)
	for _, sec := range s[1:] {
		w.section(sec, names.add(sec.name))
	}
	return w.buf
}

// hash is the System V symbol hash table with one bucket: all symbols in a chain. Every
// loader still reads it, which is not true of the GNU table.
func (o object) hash() []byte {
	n := len(o.symbols)
	out := le32(nil, 1, n+1)
	if n == 0 {
		return le32(out, 0, 0)
	}
	out = le32(out, 1, 0)
	for i := 2; i <= n; i++ {
		out = le32(out, i)
	}
	return le32(out, 0)
}

func (o object) text() []byte {
	out := []byte{0xc3} // never empty: a section of no size has no place in a segment
	for _, s := range o.symbols {
		out = append(out, s.code...)
	}
	return out
}

func (o object) symbolTable(strs *stringTable, text int) []byte {
	w := elfWriter{bits: o.bits}
	w.symbol(0, 0, 0, 0, 0)
	at := text + 1
	for _, s := range o.symbols {
		w.symbol(strs.add(s.name), elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), secText, at, len(s.code))
		at += len(s.code)
	}
	return w.buf
}

func (o object) dynamic(soname int, needed []int, s []section) []byte {
	w := elfWriter{bits: o.bits}
	for _, n := range needed {
		w.words(int(elf.DT_NEEDED), n)
	}
	w.words(int(elf.DT_SONAME), soname,
		int(elf.DT_HASH), s[secHash].offset,
		int(elf.DT_SYMTAB), s[secSymbols].offset,
		int(elf.DT_SYMENT), s[secSymbols].entry,
		int(elf.DT_STRTAB), s[secStrings].offset,
		int(elf.DT_STRSZ), len(s[secStrings].data),
		int(elf.DT_NULL), 0)
	return w.buf
}

// stringTable is an ELF string table; adding a string again gives its old place.
type stringTable struct {
	strings.Builder
	at map[string]int
}

func newStringTable() *stringTable {
	t := &stringTable{at: map[string]int{"": 0}}
	t.WriteByte(0)
	return t
}

func (t *stringTable) add(s string) int {
	if at, ok := t.at[s]; ok {
		return at
	}
	t.at[s] = t.Len()
	t.WriteString(s + "\x00")
	return t.at[s]
}

func le32(buf []byte, values ...int) []byte {
	for _, v := range values {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(v))
	}
	return buf
}
