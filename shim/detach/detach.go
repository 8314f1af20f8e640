// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package detach

// #include "detach.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stay returns nil unless this process is the child that was forked for `start`.
//
// What it returns lets the parent end, with success, and this process live on
// under another command line, of which no more is shown than there is room for.
// It is called once, by the process's first thread, after stdin, stdout and
// stderr were let go of. A parent that has gone already is no error: it was
// killed in the last moment, or has nothing more to wait for.
func Stay() func(args []string) error {
	if C.detached.report == 0 {
		return nil
	}
	return stay
}

func stay(args []string) error {
	// The signal would come from the thread that asked for it alone.
	if unix.Gettid() != os.Getpid() {
		return errors.New("stay without the parent: this is not the process's first thread")
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("stay without the parent: %w", err)
	}
	rename(args)
	report := int(C.detached.report)
	_, _ = unix.Write(report, []byte{1})
	return unix.Close(report)
}

// rename changes the command line that the kernel shows (proc_pid_cmdline(5)).
func rename(args []string) {
	shown := unsafe.Slice((*byte)(unsafe.Pointer(C.detached.arguments)), int(C.detached.size))
	end := copy(shown[:len(shown)-1], strings.Join(args, "\x00"))
	clear(shown[end:])
	// What is left is cut off, or else shown as empty words: without
	// CAP_SYS_RESOURCE or CONFIG_CHECKPOINT_RESTORE (PR_SET_MM(2const)).
	_ = unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_ARG_END, uintptr(unsafe.Pointer(&shown[end]))+1, 0, 0)
}
