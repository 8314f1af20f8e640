// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"debug/elf"
	"encoding/binary"
)

// elfWriter appends the structures of elf(5) in either class, little-endian.
type elfWriter struct {
	bits int
	buf  []byte
}

func (w *elfWriter) half(values ...int) {
	for _, v := range values {
		w.buf = binary.LittleEndian.AppendUint16(w.buf, uint16(v))
	}
}

// words are addresses, offsets and sizes: as wide as the class.
func (w *elfWriter) words(values ...int) {
	for _, v := range values {
		if w.bits == 64 {
			w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(v))
		} else {
			w.buf = le32(w.buf, v)
		}
	}
}

func (w *elfWriter) pad(to int) { w.buf = append(w.buf, make([]byte, to-len(w.buf))...) }

func (w *elfWriter) header(kind elf.Type, entry, sections, count int) {
	class, machine, sizes := elf.ELFCLASS64, elf.EM_X86_64, [3]int{64, 56, 64}
	if w.bits == 32 {
		class, machine, sizes = elf.ELFCLASS32, elf.EM_386, [3]int{52, 32, 40}
	}
	segments := elfSegments
	if count == 0 {
		segments = 1
	}
	w.buf = append(w.buf, elf.ELFMAG+string([]byte{byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})...)
	w.pad(elf.EI_NIDENT)
	w.half(int(kind), int(machine))
	w.buf = le32(w.buf, int(elf.EV_CURRENT))
	w.words(entry, sizes[0], sections)
	w.buf = le32(w.buf, 0)
	w.half(sizes[0], sizes[1], segments, sizes[2], count, max(count-1, 0))
}

func (w *elfWriter) segment(kind elf.ProgType, flags elf.ProgFlag, offset, addr, size, align int) {
	w.buf = le32(w.buf, int(kind))
	if w.bits == 64 {
		w.buf = le32(w.buf, int(flags))
	}
	w.words(offset, addr, addr, size, size)
	if w.bits == 32 {
		w.buf = le32(w.buf, int(flags))
	}
	w.words(align)
}

func (w *elfWriter) symbol(name int, info byte, index, value, size int) {
	w.buf = le32(w.buf, name)
	if w.bits == 32 {
		w.words(value, size)
	}
	w.buf = append(w.buf, info, 0)
	w.half(index)
	if w.bits == 64 {
		w.words(value, size)
	}
}

func (w *elfWriter) section(s section, name int) {
	addr, info := 0, 0
	if s.flags&elf.SHF_ALLOC != 0 {
		addr = s.offset
	}
	if s.kind == elf.SHT_DYNAMIC {
		addr += elfPage
	}
	if s.kind == elf.SHT_DYNSYM {
		info = 1 // the first symbol that is not local
	}
	w.buf = le32(w.buf, name, int(s.kind))
	w.words(int(s.flags), addr, s.offset, len(s.data))
	w.buf = le32(w.buf, s.link, info)
	w.words(min(s.offset, 16), s.entry)
}

// program is a static x86-64 program that prints a text and exits with a code. It needs no
// shell, no loader and no library.
func program(text string, code byte) []byte {
	const base, entry = 0x400000, 64 + 56
	w := elfWriter{bits: 64}
	w.header(elf.ET_EXEC, base+entry, 0, 0)
	body := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, write
		0xbf, 1, 0, 0, 0, // mov edi, stdout
		0x48, 0x8d, 0x35, 0x15, 0, 0, 0, // lea rsi, [rip+21]: the text
		0xba, // mov edx, length of the text
	}
	body = le32(body, len(text))
	body = append(body,
		0x0f, 0x05, // syscall
		0xb8, 60, 0, 0, 0, // mov eax, exit
		0xbf, code, 0, 0, 0, // mov edi, code
		0x0f, 0x05, // syscall
		0x90, 0x90)
	body = append(body, text...)
	w.segment(elf.PT_LOAD, elf.PF_R|elf.PF_X, 0, base, entry+len(body), elfPage)
	return append(w.buf, body...)
}
