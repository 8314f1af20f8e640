// SPDX-License-Identifier: Apache-2.0

package jail

import "golang.org/x/sys/unix"

// hugePage is the size of one, of those that madvise(2) is about, on x86-64.
const hugePage = 2 << 20

// Where struct seccomp_data has the lower halves of madvise(2)'s arguments.
const (
	offLength = 24
	offAdvice = 32
)

// keepBlocksSmall has madvise(2) fail for this thread, and whatever it becomes or
// begins, where it asks for a huge page in a block of that size. QEMU asks for all
// that it calls memory of the machine's, also for the 2 MiB in which it has a few
// KiB of ACPI tables, which then take 2 MiB on the host; and it goes on when it is
// refused (softmmu/physmem.c, ram_block_add). Larger blocks, a guest's memory and
// what an emulator translates, lose much without huge pages.
//
// Where the size of a huge page is not known here nothing is done. It saves memory,
// and bars nobody from anything.
func keepBlocksSmall() error {
	if auditArch == 0 {
		return nil
	}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// unless jumps over the next skip instructions if the word is not k.
	unless := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jf: skip, K: k}
	}
	answer := func(what uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
	}
	return install([]unix.SockFilter{
		load(offNumber), unless(unix.SYS_MADVISE, 5),
		load(offLength), unless(hugePage, 3),
		load(offAdvice), unless(unix.MADV_HUGEPAGE, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)),
		answer(unix.SECCOMP_RET_ALLOW),
	})
}
