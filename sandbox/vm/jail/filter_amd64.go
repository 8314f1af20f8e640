// SPDX-License-Identifier: Apache-2.0

package jail

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	// foreignCalls is where x32's begin (__X32_SYSCALL_BIT).
	foreignCalls = 1 << 30
)

// forbiddenHere are those that other architectures have not.
var forbiddenHere = []uint32{
	unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_KEXEC_FILE_LOAD,
}
