// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Where things are in the guest's memory: page tables, then the instructions,
// then a word that they use.
const (
	pml4       = 0x1000
	pdptText   = 0x2000
	pdptDirect = 0x3000
	pd         = 0x4000
	code       = 0x5000
	word       = 0x8000
	memorySize = 0x10000

	// The tables map the first 2 MiB, as one large page, to where Linux has
	// its text and to where it has all memory (Documentation/arch/x86/x86_64/mm.rst):
	// a KVM that shares its upper half with the guest fails there and not below.
	text   = 0xffffffff80000000
	direct = 0xffff888000000000

	resultPort = 0x10
	// rounds is how often the loop runs: some milliseconds on a CPU, minutes
	// where KVM interprets a kernel's instructions one by one.
	rounds = 1 << 22
)

// instructions, in long mode: a loop counts a word in memory up, and what is
// there at the end is written to a port.
var instructions = []byte{
	0x48, 0xbb, 0x00, 0x80, 0x00, 0x00, 0x80, 0x88, 0xff, 0xff, // mov rbx, direct+word
	0xb9, 0x00, 0x00, 0x40, 0x00, // mov ecx, rounds
	0x48, 0xff, 0x03, // loop: inc qword [rbx]
	0xff, 0xc9, // dec ecx
	0x75, 0xf9, // jnz loop
	0x8b, 0x03, // mov eax, [rbx]
	0xe7, resultPort, // out resultPort, eax
	0xf4, // hlt
}

// Bits of control registers and page table entries (Intel SDM volume 3, 2.5 and 4.5).
const (
	cr0PE, cr0NE, cr0PG = 1 << 0, 1 << 5, 1 << 31
	cr4PAE              = 1 << 5
	eferLME, eferLMA    = 1 << 8, 1 << 10
	present, writable   = 1 << 0, 1 << 1
	largePage           = 1 << 7
	flagsReserved       = 1 << 1
)

// segment is struct kvm_segment.
type segment struct {
	base                         uint64
	limit                        uint32
	selector                     uint16
	kind, present, dpl, db, s, l uint8
	g, avl, unusable, _          uint8
}

// sregs is struct kvm_sregs.
type sregs struct {
	cs, ds, es, fs, gs, ss, tr, ldt segment
	gdt, idt                        struct {
		base  uint64
		limit uint16
		_     [3]uint16
	}
	cr0, cr2, cr3, cr4, cr8, efer, apicBase uint64
	interrupts                              [4]uint64
}

// regs is struct kvm_regs.
type regs struct {
	general     [16]uint64 // rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15
	rip, rflags uint64
}

// enterLongMode puts the CPU before the instructions, as a kernel's own start
// would have: 64 bits, paging on.
func (m *machine) enterLongMode() error {
	le := binary.LittleEndian
	entry := func(table, address, shift, next uint64) {
		le.PutUint64(m.memory[table+8*(address>>shift&511):], next|present|writable)
	}
	entry(pml4, text, 39, pdptText)
	entry(pdptText, text, 30, pd)
	entry(pml4, direct, 39, pdptDirect)
	entry(pdptDirect, direct, 30, pd)
	entry(pd, text, 21, largePage)
	copy(m.memory[code:], instructions)

	var s sregs
	if err := ioctl(m.cpu, kvmGetSregs, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("read a virtual CPU's registers: %w", err)
	}
	s.cr0, s.cr3, s.cr4, s.efer = cr0PE|cr0NE|cr0PG, pml4, cr4PAE, eferLME|eferLMA
	s.cs = segment{limit: 0xffffffff, selector: 8, kind: 11, present: 1, s: 1, l: 1, g: 1}
	data := segment{limit: 0xffffffff, selector: 16, kind: 3, present: 1, s: 1, db: 1, g: 1}
	s.ds, s.es, s.fs, s.gs, s.ss = data, data, data, data, data
	if err := ioctl(m.cpu, kvmSetSregs, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("put a virtual CPU into long mode: %w", err)
	}
	r := regs{rip: text + code, rflags: flagsReserved}
	if err := ioctl(m.cpu, kvmSetRegs, uintptr(unsafe.Pointer(&r))); err != nil {
		return fmt.Errorf("set a virtual CPU's registers: %w", err)
	}
	return nil
}
