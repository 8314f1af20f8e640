// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/configs"
)

// listenerFD is where a spawned shim finds its listening socket, and hostMountsFD
// where one with mounts of its own finds the mount namespace that it has left.
const listenerFD, hostMountsFD = 3, 4

// start joins the shim that a container belongs to or begins one, and replies.
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
	conf := configs.DefaultShim()
	if e.Config != nil {
		if conf, err = e.Config(); err != nil {
			return err
		}
	}
	if e.OnePod {
		conf.Group = configs.PerPod
	}
	group, err := readGroup(id.Bundle, id.ID)
	if err != nil {
		return err
	}
	sockets, err := e.sockets(id, boot, conf.Group, group)
	if err != nil {
		return err
	}
	for _, socket := range sockets[:len(sockets)-1] {
		id.SocketPath = socket
		if joined, err := e.joinIfThere(id, boot); joined || err != nil {
			return err
		}
	}
	id.SocketPath = sockets[len(sockets)-1]
	return e.joinOrBegin(id, boot, conf)
}

// joinIfThere joins the shim that listens at a socket, if one does, and replies.
func (e *Env) joinIfThere(id Identity, boot bootstrap) (bool, error) {
	if alive, err := listening(id.SocketPath); !alive || err != nil {
		return false, err
	}
	l, err := lockSocket(id.SocketPath)
	if err != nil {
		return false, err
	}
	defer l.release()
	return e.joinLocked(id, boot)
}

// joinOrBegin joins the shim that listens at a socket or starts one, and replies.
func (e *Env) joinOrBegin(id Identity, boot bootstrap, conf configs.Shim) error {
	if conf.Group == configs.PerNode {
		if err := e.checkShared(boot); err != nil {
			return err
		}
	}
	if err := makeSocketDir(filepath.Dir(id.SocketPath)); err != nil {
		return err
	}
	l, err := lockSocket(id.SocketPath)
	if err != nil {
		return err
	}
	defer l.release()
	if joined, err := e.joinLocked(id, boot); joined || err != nil {
		return err
	}
	if err := removeSocketLocked(id.SocketPath); err != nil { // an earlier one's
		return err
	}
	if err := noteSocket(id); err != nil {
		return err
	}
	return e.beginLocked(id, boot, conf)
}

// joinLocked joins the shim that listens, and replies; false if none does.
func (e *Env) joinLocked(id Identity, boot bootstrap) (bool, error) {
	alive, err := listening(id.SocketPath)
	if !alive || err != nil {
		return false, err
	}
	s, err := readServed(id.SocketPath, e.RuntimeType)
	if err != nil {
		return false, err
	}
	if s.Group == configs.PerNode {
		if err := announce(id); err != nil {
			if alive, _ := listening(id.SocketPath); !alive {
				return false, nil // it has died in this moment
			}
			return false, err
		}
	}
	if err := noteSocket(id); err != nil {
		return false, err
	}
	return true, e.writeReply(min(s.Protocol, boot.protocol), "unix://"+id.SocketPath)
}

// noteSocket leaves in the bundle where its container's shim listens.
func noteSocket(id Identity) error {
	if err := noteSocketDir(id.Bundle, filepath.Dir(id.SocketPath)); err != nil {
		return err
	}
	return noteAddress(id.Bundle, id.SocketPath)
}

// beginLocked starts a shim and replies.
func (e *Env) beginLocked(id Identity, boot bootstrap, conf configs.Shim) (retErr error) {
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, removeSocketLocked(id.SocketPath))
		}
	}()
	s := served{Runtime: e.RuntimeType, Version: e.Version, Protocol: currentProtocol, Namespace: id.Namespace, ID: id.ID}
	if conf.Group == configs.PerNode {
		s.Group = conf.Group
	}
	if err := s.write(id.SocketPath); err != nil {
		return err
	}
	// Of the events that a shim of this group could not deliver before it
	// died, those of a container with the same name would be taken for the new
	// one's. A node's are those of all its pods: its next shim delivers them.
	if s.Group == "" {
		if err := dropJournal(journalPath(id.SocketPath)); err != nil {
			return err
		}
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
	if cgroup := cmp.Or(boot.options.ShimCgroup, conf.Cgroup); cgroup != "" {
		if err := joinCgroup(cgroup); err != nil {
			return err
		}
	}
	if e.lookup("SCHED_CORE") != "" {
		if err := createCoreSchedulingDomain(); err != nil {
			return err
		}
	}
	pid, err := e.spawn(id, listener, s.Group)
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

// runtimeSettings are of the Go runtime and the C library of a shim, unless
// containerd says otherwise.
//
// GOMAXPROCS is what containerd sets for every shim anyway: a shim waits more than
// it computes, and each P holds memory of its own. GOGC has the heap collected at
// 2 MiB first, and not at 4: 0.3 MiB less after a hundred execs. The first create
// allocates 1.5, and is not slowed down (docs/performance.md).
//
// MALLOC_ARENA_MAX keeps glibc, where a shim is built with that and not with musl,
// from giving each thread a heap of its own (mallopt(3)): 4 to 8 KiB each.
var runtimeSettings = [...]string{"GOMAXPROCS=2", "GOGC=50", "MALLOC_ARENA_MAX=1"}

// spawn runs this program again as the shim. It gets nothing of what
// containerd gave `start` but the working directory and the environment:
// containerd waits for the end of its pipes. Its stderr, where the Go runtime
// reports a crash, is the log.
func (e *Env) spawn(id Identity, listener Listener, group configs.Group) (int, error) {
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
	if group != "" {
		args = append(args, "-group", string(group))
	}
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
	for _, kv := range runtimeSettings {
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
