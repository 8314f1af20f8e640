// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enter becomes the program of the spec on descriptor fd. The descriptors below
// that are the program's; those above are somebody's who forgot to have them
// closed, perhaps of whoever started the parent, and the program does not get them.
// Enter returns only on an error, with the process then good for nothing but to end.
func Enter(fd int) error {
	// Credentials, capabilities and the death signal are a thread's; the one
	// that calls exec(2) is the one that stays.
	runtime.LockOSThread()
	s, err := read(fd)
	if err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return fmt.Errorf("jail %s: %w", s.Path, err)
	}
	if err := unix.CloseRange(uint(fd), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("jail %s: keep other descriptors from it: %w", s.Path, err)
	}
	err = syscall.Exec(s.Path, append([]string{s.Path}, s.Args...), []string{})
	return fmt.Errorf("start %s in its jail: %w", s.Path, err)
}

func (s *Spec) enter() error {
	for _, dir := range s.Cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("join a cgroup: %w", err)
		}
	}
	if err := s.joinNetwork(); err != nil {
		return err
	}
	if err := s.setRoot(); err != nil {
		return err
	}
	if err := s.limit(); err != nil {
		return err
	}
	if s.Idle {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
			return fmt.Errorf("run only on idle CPUs: %w", err)
		}
	}
	if err := s.drop(); err != nil {
		return err
	}
	if err := s.dieWithParent(); err != nil {
		return err
	}
	if s.SmallBlocks {
		if err := keepBlocksSmall(); err != nil {
			return err
		}
	}
	if !s.Filtered {
		return nil
	}
	return filter()
}

func (s *Spec) joinNetwork() error {
	if s.Network == 0 {
		return nil
	}
	if err := unix.Setns(s.Network, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("join the network namespace: %w", err)
	}
	return unix.Close(s.Network)
}

func (s *Spec) limit() error {
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{{"NOFILE", unix.RLIMIT_NOFILE, s.OpenFiles}, {"NPROC", unix.RLIMIT_NPROC, s.Threads},
		{"MEMLOCK", unix.RLIMIT_MEMLOCK, s.Locked}, {"CORE", unix.RLIMIT_CORE, 0}} {
		if l.value == 0 && l.resource != unix.RLIMIT_CORE {
			continue
		}
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("set the limit %s to %d: %w", l.name, l.value, err)
		}
	}
	return nil
}

// dieWithParent has the kernel kill this process when its parent dies, and
// ends it if that has happened already. In a PID namespace of its own it cannot
// see its parent, but it has one end of a socket.
func (s *Spec) dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set the death signal: %w", err)
	}
	peer := []unix.PollFd{{Fd: int32(s.Parent), Events: unix.POLLHUP}}
	if _, err := unix.Poll(peer, 0); err != nil {
		return fmt.Errorf("look for the parent: %w", err)
	}
	if peer[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		return fmt.Errorf("the parent has gone")
	}
	return nil
}
