// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenerFD is where a spawned shim finds its listening socket, and hostMountsFD
// where one with mounts of its own finds the mount namespace that it has left.
const listenerFD, hostMountsFD = 3, 4

// start joins the shim of the container's group or begins one, and replies.
// Only the reply is written: containerd takes stdout and stderr together for
// it. After an error nothing that was begun is left.
func (e *Env) start(f *flags) error {
	input, err := readInput(e.Stdin)
	if err != nil {
		return err
	}
	boot, err := decodeBootstrap(input, f.id, f.namespace)
	if err != nil {
		return err
	}
	f.debug = f.debug || boot.debug
	id, err := e.identity(f)
	if err != nil {
		return err
	}
	group, err := readGroup(id.Bundle, id.ID)
	if err != nil {
		return err
	}
	if id.SocketPath, err = socketPath(boot.socketDir, id.Address, id.Namespace, group); err != nil {
		return err
	}
	dir := filepath.Dir(id.SocketPath)
	if err := makeSocketDir(dir); err != nil {
		return err
	}
	l, err := lockSocket(id.SocketPath)
	if err != nil {
		return err
	}
	defer l.release()
	if err := noteSocketDir(id.Bundle, dir); err != nil {
		return err
	}
	version, err := e.joinLocked(id.SocketPath)
	if err != nil {
		return err
	}
	if err := noteAddress(id.Bundle, id.SocketPath); err != nil {
		return err
	}
	if version > 0 {
		return e.writeReply(min(version, boot.protocol), "unix://"+id.SocketPath)
	}
	return e.beginLocked(id, boot)
}

// joinLocked returns the version of the shim that listens already, or 0 if
// none does, and then nothing of an earlier one is left.
func (e *Env) joinLocked(socket string) (int, error) {
	alive, err := listening(socket)
	if err != nil {
		return 0, err
	}
	if !alive {
		return 0, removeSocketLocked(socket)
	}
	s, err := readServed(socket, e.RuntimeType)
	return s.Protocol, err
}

// beginLocked starts a shim and replies.
func (e *Env) beginLocked(id Identity, boot bootstrap) (retErr error) {
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, removeSocketLocked(id.SocketPath))
		}
	}()
	s := served{Runtime: e.RuntimeType, Version: e.Version, Protocol: currentProtocol, Namespace: id.Namespace, ID: id.ID}
	if err := s.write(id.SocketPath); err != nil {
		return err
	}
	// Of the events that a shim of this group could not deliver before it
	// died, those of a container with the same name would be taken for the new
	// one's.
	if err := dropJournal(journalPath(id.SocketPath)); err != nil {
		return err
	}
	listener, err := listen(id.SocketPath)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()

	// All of these are inherited. Doing them here leaves nothing to undo
	// once the shim runs, and no moment in which it runs without them.
	if err := raiseOOMScore(os.Getppid()); err != nil {
		return err
	}
	if boot.options.ShimCgroup != "" {
		if err := joinCgroup(boot.options.ShimCgroup); err != nil {
			return err
		}
	}
	if e.lookup("SCHED_CORE") != "" {
		if err := createCoreSchedulingDomain(); err != nil {
			return err
		}
	}
	pid, err := e.spawn(id, listener)
	if err != nil {
		return err
	}
	if err := e.writeReply(boot.protocol, "unix://"+id.SocketPath); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return err
	}
	return nil
}

// goSettings are of the Go runtime of a shim, unless containerd says otherwise.
//
// GOMAXPROCS is what containerd sets for every shim anyway: a shim waits more than
// it computes, and each P holds memory of its own. GOGC has the heap collected at
// 2.8 MiB and not at 4: what is alive then lies closer together, which is 30 to 50
// KiB less for each container after the first. At 60 a shim with one container is
// collected too, which costs more than it frees (docs/performance.md).
var goSettings = [...]string{"GOMAXPROCS=2", "GOGC=70"}

// spawn runs this program again as the shim. It gets nothing of what
// containerd gave `start` but the working directory and the environment:
// containerd waits for the end of its pipes. Its stderr, where the Go runtime
// reports a crash, is the log.
func (e *Env) spawn(id Identity, listener Listener) (int, error) {
	self, err := executable()
	if err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = null.Close() }()
	socket, err := listener.File()
	if err != nil {
		return 0, fmt.Errorf("hand over the socket: %w", err)
	}
	defer func() { _ = socket.Close() }()

	stderr := null.Fd()
	if fd, err := openLogFD(id.Bundle); err == nil {
		defer func() { _ = unix.Close(fd) }()
		stderr = uintptr(fd)
	}
	args := []string{self, "-namespace", id.Namespace, "-id", id.ID, "-address", id.Address}
	if id.Debug {
		args = append(args, "-debug")
	}
	files := []uintptr{null.Fd(), null.Fd(), stderr, socket.Fd()}
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
	for _, kv := range goSettings {
		if key, _, _ := strings.Cut(kv, "="); e.lookup(key) == "" {
			env = append(env, kv)
		}
	}
	// Whatever else containerd let slip to `start` ends here (close_range(2);
	// a kernel before 5.11 cannot, and then nothing is lost but this care).
	_ = unix.CloseRange(listenerFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	pid, err := syscall.ForkExec(self, args, &syscall.ProcAttr{
		Dir:   id.Bundle,
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
