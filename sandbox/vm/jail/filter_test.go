// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Arguments by which the test binary makes calls.
const (
	forbiddenCaller = "call-what-is-forbidden"
	x32Caller       = "call-as-x32"
)

// call has a thread of the test binary filtered, and make a call.
func call(with func() error, what func()) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := with(); err != nil {
		return err
	}
	what()
	return nil
}

// callX32 calls getpid by the number that x32 has for it.
func callX32() { _, _, _ = unix.RawSyscall(1<<30|unix.SYS_GETPID, 0, 0, 0) }

// callForbidden prints what is not refused: without a filter each of these calls
// would fail too, by its arguments, but with another error.
func callForbidden() {
	const none = ^uintptr(0)
	for _, number := range slices.Concat(forbidden, forbiddenHere) {
		if slices.Contains(processes, number) {
			continue
		}
		if _, _, errno := unix.RawSyscall6(uintptr(number), none, none, none, none, none, none); errno != unix.EPERM {
			fmt.Printf("call %d: %v\n", number, errno)
		}
	}
	const made, here = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
		unix.CLONE_NEWPID | unix.CLONE_NEWNET, unix.CLONE_NEWTIME // of clone(2), and of unshare(2) too
	for flag := range 32 {
		bit := uintptr(1) << flag
		_, _, errno := unix.RawSyscall(unix.SYS_UNSHARE, bit, 0, 0)
		if want := (made|here)&bit != 0; want != (errno == unix.EPERM) {
			fmt.Printf("unshare %#x: %v\n", bit, errno)
		}
		// Without CLONE_SIGHAND a thread is none: EINVAL is what an allowed clone says.
		_, _, errno = unix.RawSyscall(unix.SYS_CLONE, unix.CLONE_THREAD|bit&^unix.CLONE_SIGHAND, 0, 0)
		if want := made&bit != 0; want != (errno == unix.EPERM) {
			fmt.Printf("clone %#x: %v\n", unix.CLONE_THREAD|bit, errno)
		}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); errno != unix.ENOSYS {
		fmt.Printf("clone3: %v\n", errno)
	}
}

// processes are begun by calls that need no argument for it: the shell makes them.
var processes = []uint32{unix.SYS_FORK, unix.SYS_VFORK}

func TestForbidden(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", forbiddenCaller).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("not refused, or refused otherwise: %s (%v)", out, err)
	}
}

func TestNumbersOfOthers(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", x32Caller).CombinedOutput()
	if err == nil || !strings.Contains(err.Error(), "bad system call") {
		t.Errorf("%s, %v, want SIGSYS", out, err)
	}
}

// Who has the right to do it all the same cannot in such a jail.
func TestFilteredJail(t *testing.T) {
	path := busybox(t)
	for name, script := range map[string]string{
		"a process":        `$(exec ` + path + ` true)`,
		"a namespace":      `exec ` + path + ` unshare -n ` + path + ` true`,
		"a user namespace": `exec ` + path + ` unshare -U ` + path + ` true`,
		"a mount":          `exec ` + path + ` mount -t tmpfs none /proc`,
		"a setting":        `exec ` + path + ` hostname other`,
		"what is mounted":  `exec ` + path + ` umount -l /proc`,
	} {
		t.Run(name, func(t *testing.T) {
			root := func(s *Spec) { s.UID, s.GID, s.Capabilities = 0, 0, []int{unix.CAP_SYS_ADMIN} }
			if out, err := run(t, script, root); err != nil {
				t.Fatalf("without a filter: %s, %v", out, err)
			}
			out, err := run(t, script, func(s *Spec) { root(s); s.Filtered = true })
			// busybox's mount has words of its own for EPERM.
			if err == nil || !strings.Contains(out, "not permitted") && !strings.Contains(out, "permission denied (are you root?)") {
				t.Errorf("it is not refused: %s, %v", out, err)
			}
		})
	}
}

func TestFilterIsInherited(t *testing.T) {
	for want, ask := range map[string]func(*Spec){
		"0 0": func(*Spec) {},
		"2 1": func(s *Spec) { s.Filtered = true },
		"2 2": func(s *Spec) { s.Filtered, s.SmallBlocks = true, auditArch != 0 },
	} {
		prints(t, want, `while read k v; do case $k in Seccomp:|Seccomp_filters:) echo -n "$v ";; esac; done </proc/self/status`, ask)
	}
}
