// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are system calls that a program which serves files has no use for:
// most of them a way into parts of the kernel that it would not reach otherwise.
// None of them is among those that virtiofsd makes while it starts, or that its own
// filter allows afterwards.
var forbidden = []uint32{
	// mounts
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN,
	unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	// namespaces, but for those of clone and unshare; other processes
	unix.SYS_SETNS, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP,
	unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD,
	// files by other ways than their names
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_EXECVEAT,
	// what runs code in the kernel, or has much of it
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_IO_SETUP, unix.SYS_ADD_KEY, unix.SYS_KEYCTL, unix.SYS_REQUEST_KEY, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
	// sockets, and what is older: the one that it serves is handed to it
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_BIND, unix.SYS_CONNECT, unix.SYS_LISTEN,
	unix.SYS_MSGGET, unix.SYS_SEMGET, unix.SYS_SHMGET, unix.SYS_MQ_OPEN,
	// the machine
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SYSLOG, unix.SYS_ACCT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_PERSONALITY,
}

// namespaces are the flags of clone(2) and unshare(2) that make one; of clone, whose
// lowest byte is a signal, CLONE_NEWTIME is none.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Where struct seccomp_data has them (seccomp(2)); the lower half of an argument
// comes first on the little endian machines that have an auditArch here.
const (
	offNumber = 0
	offArch   = 4
	offFlags  = 16
)

// filter has the kernel refuse this thread, and whatever it becomes or begins, the
// forbidden calls, new processes and new namespaces. It needs no_new_privs, and
// what is called after it must be allowed: execve(2) is, which gives nobody more
// than he has, as the filter goes with it.
func filter() error {
	if auditArch == 0 {
		return fmt.Errorf("filter system calls: their numbers on this architecture are not known here")
	}
	return install(filterProgram())
}

// install has the kernel ask program of each system call, from now on.
func install(program []unix.SockFilter) error {
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}

// filterProgram decides on a struct seccomp_data.
func filterProgram() (code []unix.SockFilter) {
	load := func(offset uint32) {
		code = append(code, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
	}
	// unless jumps over the next skip instructions if the word compares so with k.
	unless := func(compare uint16, k uint32, skip uint8) {
		code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | compare, Jt: 0, Jf: skip, K: k})
	}
	answer := func(what uint32) {
		code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what})
	}
	const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)

	load(offArch)
	code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, Jt: 1, K: auditArch})
	answer(unix.SECCOMP_RET_KILL_PROCESS) // another architecture's numbers mean other calls
	load(offNumber)
	unless(unix.BPF_JGE, foreignCalls, 1)
	answer(unix.SECCOMP_RET_KILL_PROCESS)
	for _, number := range slices.Concat(forbidden, forbiddenHere) {
		unless(unix.BPF_JEQ, number, 1)
		answer(refuse)
	}
	unless(unix.BPF_JEQ, unix.SYS_CLONE3, 1)
	answer(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)) // its flags are in memory; a C library then calls clone

	unless(unix.BPF_JEQ, unix.SYS_CLONE, 6)
	load(offFlags)
	unless(unix.BPF_JSET, namespaces, 1)
	answer(refuse)
	unless(unix.BPF_JSET, unix.CLONE_THREAD, 1)
	answer(unix.SECCOMP_RET_ALLOW)
	answer(refuse)

	unless(unix.BPF_JEQ, unix.SYS_UNSHARE, 3)
	load(offFlags)
	unless(unix.BPF_JSET, namespaces|unix.CLONE_NEWTIME, 1)
	answer(refuse)
	answer(unix.SECCOMP_RET_ALLOW)
	return code
}
