// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

// What is read of one file at most; a driver's library has some ten segments and
// some forty dynamic entries.
const (
	maxSegments = 64
	maxDynamic  = 64 << 10
	maxSoname   = 255
)

// Program header types and dynamic tags, elf(5).
const (
	ptLoad    = 1
	ptDynamic = 2
	dtStrtab  = 5
	dtSoname  = 14
)

// Library is a shared library and where the container has it.
type Library struct {
	Soname string // empty where the file has none
	Path   string
	ABI    ABI
}

type segment struct {
	kind                uint32
	offset, vaddr, size uint64 // size: in the file
}

// ReadLibrary reads soname and ABI of a shared library, some few KiB of it: its
// Path is left to the caller. debug/elf is not used because it makes no promise
// for hostile input and allocates what a section claims.
func ReadLibrary(r io.ReaderAt) (Library, error) {
	abi, segments, err := readSegments(r)
	if err != nil {
		return Library{}, err
	}
	lib := Library{ABI: abi}
	var strtab, soname uint64
	var named bool
	for _, s := range segments {
		if s.kind != ptDynamic {
			continue
		}
		dynamic := make([]byte, min(s.size, maxDynamic))
		if _, err := r.ReadAt(dynamic, int64(s.offset)); err != nil {
			return Library{}, elfError("dynamic section beyond the end of the file")
		}
		word := 4
		if abi.Is64() {
			word = 8
		}
		for ; len(dynamic) >= 2*word; dynamic = dynamic[2*word:] {
			switch number(dynamic, word) {
			case dtStrtab:
				strtab = number(dynamic[word:], word)
			case dtSoname:
				soname, named = number(dynamic[word:], word), true
			}
		}
	}
	if !named {
		return lib, nil
	}
	lib.Soname, err = readString(r, segments, strtab, soname)
	return lib, err
}

func readSegments(r io.ReaderAt) (ABI, []segment, error) {
	h := make([]byte, 64)
	if n, _ := r.ReadAt(h, 0); n < 52 || string(h[:4]) != "\x7fELF" {
		return 0, nil, elfError("no ELF file")
	}
	// EI_DATA 1: little endian, as all that the driver supports; e_type 3: ET_DYN.
	bits := int(h[4]) * 32
	if h[5] != 1 || binary.LittleEndian.Uint16(h[16:]) != 3 {
		return 0, nil, elfError("no little-endian shared library")
	}
	machine := binary.LittleEndian.Uint16(h[18:])
	var abi ABI
	for _, p := range platforms() {
		if p.machine == machine && p.bits == bits {
			abi = p.abi
		}
	}
	if abi == 0 {
		return 0, nil, elfError(fmt.Sprintf("machine %d with %d bits is not known", machine, bits))
	}
	// Elf32_Ehdr and Elf64_Ehdr: e_phoff and e_phnum; Phdr: size of one.
	offset, count, size := number(h[28:], 4), number(h[44:], 2), 32
	if bits == 64 {
		offset, count, size = number(h[32:], 8), number(h[56:], 2), 56
	}
	if count > maxSegments {
		return 0, nil, elfError(fmt.Sprintf("%d segments", count))
	}
	table := make([]byte, int(count)*size)
	if _, err := r.ReadAt(table, int64(offset)); err != nil {
		return 0, nil, elfError("program headers beyond the end of the file")
	}
	segments := make([]segment, 0, count)
	for ; len(table) > 0; table = table[size:] {
		s := segment{kind: uint32(number(table, 4))}
		if bits == 64 {
			s.offset, s.vaddr, s.size = number(table[8:], 8), number(table[16:], 8), number(table[32:], 8)
		} else {
			s.offset, s.vaddr, s.size = number(table[4:], 4), number(table[8:], 4), number(table[16:], 4)
		}
		segments = append(segments, s)
	}
	return abi, segments, nil
}

// readString reads the string at index in the table that is loaded at address strtab.
func readString(r io.ReaderAt, segments []segment, strtab, index uint64) (string, error) {
	for _, s := range segments {
		if s.kind != ptLoad || strtab < s.vaddr || strtab-s.vaddr >= s.size {
			continue
		}
		buf := make([]byte, maxSoname+1)
		n, _ := r.ReadAt(buf, int64(s.offset+strtab-s.vaddr+index))
		end := bytes.IndexByte(buf[:n], 0)
		if end < 0 || !plainName(string(buf[:end])) {
			return "", elfError("the soname is no plain file name")
		}
		return string(buf[:end]), nil
	}
	return "", elfError("the string table is in no segment")
}

// plainName says whether a name can be a soname: printable, no path, no blank.
func plainName(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '/' {
			return false
		}
	}
	return s != "" && len(s) <= maxSoname && s != "." && s != ".."
}

// number reads a little-endian number of 2, 4 or 8 bytes.
func number(b []byte, size int) uint64 {
	switch size {
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	default:
		return binary.LittleEndian.Uint64(b)
	}
}

func elfError(what string) error {
	return fmt.Errorf("read shared library: %s: %w", what, errdefs.ErrInvalidArgument)
}
