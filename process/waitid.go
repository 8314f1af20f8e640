// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitInfo is the part of siginfo_t that waitid(2) fills in.
type waitInfo struct {
	pid    int // 0: nobody was waitable (WNOHANG)
	code   int32
	status int
}

// Values of si_code for SIGCHLD, see sigaction(2).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// childSiginfo is siginfo_t as the kernel lays it out for SIGCHLD where
// pointers have 64 bits (include/uapi/asm-generic/siginfo.h): the union starts
// at offset 16.
type childSiginfo struct {
	signo, errno, code, _ int32
	pid, uid, status      int32
}

// waitid is waitid(2), restarted when a signal interrupts it.
func waitid(idType, id, options int) (waitInfo, error) {
	var raw unix.Siginfo
	for {
		err := unix.Waitid(idType, id, &raw, options, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return waitInfo{}, err
		}
		info := (*childSiginfo)(unsafe.Pointer(&raw))
		return waitInfo{pid: int(info.pid), code: info.code, status: int(info.status)}, nil
	}
}

// shellStatus is the exit code, or 128 plus the signal's number.
func (i waitInfo) shellStatus() int {
	if i.code == cldKilled || i.code == cldDumped {
		return 128 + i.status
	}
	return i.status
}
