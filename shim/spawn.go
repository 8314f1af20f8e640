// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"math"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenerFD is where a spawned shim finds its listening socket, and hostMountsFD
// where one with mounts of its own finds the mount namespace that it has left.
const listenerFD, hostMountsFD = 3, 4

// arenaSetting keeps glibc, whose threads a shim with runc's library may have, from
// giving each of them a heap of its own (mallopt(3)): 4 to 8 KiB each. What stays
// has it from package detach.
const arenaSetting = "MALLOC_ARENA_MAX"

// leave spawns a shim and replies for it.
func (e *Env) leave(b *begun, reply func() error) error {
	defer func() { _ = b.listener.Close() }()
	pid, err := e.spawn(b)
	if err != nil {
		return err
	}
	if err := reply(); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return err
	}
	return nil
}

// spawn runs this program again as the shim. It gets nothing of what containerd
// gave `start` but the working directory and the environment.
func (e *Env) spawn(b *begun) (int, error) {
	self, err := executable()
	if err != nil {
		return 0, err
	}
	socket, err := b.listener.File()
	if err != nil {
		return 0, fmt.Errorf("hand over the socket: %w", err)
	}
	defer func() { _ = socket.Close() }()
	std, err := openStdio(b.Bundle)
	if err != nil {
		return 0, err
	}
	defer std.close()
	args := b.args(self)
	files := []uintptr{uintptr(std.null), uintptr(std.null), uintptr(std.log), socket.Fd()}
	sys := &syscall.SysProcAttr{Setpgid: true}
	if e.OwnMounts {
		host, err := os.Open("/proc/self/ns/mnt")
		if err != nil {
			return 0, fmt.Errorf("open the host's mount namespace: %w", err)
		}
		defer func() { _ = host.Close() }()
		files = append(files, host.Fd())
		sys.Cloneflags = unix.CLONE_NEWNS
		args = append(args, "-"+ownMountsFlag)
	}
	env := slices.Clone(e.Environ)
	for _, s := range runtimeSettings {
		if e.lookup(s.name) == "" {
			env = append(env, fmt.Sprintf("%s=%d", s.name, s.value))
		}
	}
	if e.lookup(arenaSetting) == "" {
		env = append(env, arenaSetting+"=1")
	}
	// Whatever else containerd let slip to `start` ends here (close_range(2);
	// a kernel before 5.11 cannot, and then nothing is lost but this care).
	_ = unix.CloseRange(listenerFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	pid, err := syscall.ForkExec(self, args, &syscall.ProcAttr{
		Dir:   b.Bundle,
		Env:   env,
		Files: files,
		Sys:   sys,
	})
	if err != nil {
		return 0, fmt.Errorf("run %s as the shim: %w", self, err)
	}
	return pid, nil
}

// executable is a path of the running program. Once its file was replaced,
// as by an upgrade, only the kernel's link leads to it; the link is not used
// otherwise, because `ps` would show its name.
func executable() (string, error) {
	const link = "/proc/self/exe"
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the shim's own program: %w", err)
	}
	if _, err := os.Stat(self); err != nil {
		return link, nil
	}
	return self, nil
}
