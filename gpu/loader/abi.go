// SPDX-License-Identifier: Apache-2.0

package loader

import "fmt"

// ABI is what a library is built for, as the flags of a cache entry have it: the
// architecture in the second byte, "ELF, glibc 2" (3) in the first
// (sysdeps/generic/ldconfig.h of glibc).
type ABI uint32

const (
	I386    ABI = 0x0003
	X8664   ABI = 0x0303
	PPC64LE ABI = 0x0503
	ARMHF   ABI = 0x0903
	AArch64 ABI = 0x0a03
)

// platform is where the loaders of an ABI are.
type platform struct {
	abi     ABI
	machine uint16 // e_machine, elf(5)
	bits    int
	name    string
	glibc   string // PT_INTERP of its programs
	musl    string // <arch> in /lib/ld-musl-<arch>.so.1
}

func platforms() []platform {
	return []platform{
		{X8664, 62, 64, "x86-64", "/lib64/ld-linux-x86-64.so.2", "x86_64"},
		{I386, 3, 32, "i386", "/lib/ld-linux.so.2", "i386"},
		{AArch64, 183, 64, "aarch64", "/lib/ld-linux-aarch64.so.1", "aarch64"},
		{ARMHF, 40, 32, "armhf", "/lib/ld-linux-armhf.so.3", "armhf"},
		{PPC64LE, 21, 64, "ppc64le", "/lib64/ld64.so.2", "powerpc64le"},
	}
}

// String names the ABI for a person.
func (a ABI) String() string {
	for _, p := range platforms() {
		if p.abi == a {
			return p.name
		}
	}
	return fmt.Sprintf("flags %#x", uint32(a))
}

// Is64 says whether addresses of this ABI have 64 bits.
func (a ABI) Is64() bool { return a != I386 && a != ARMHF }
