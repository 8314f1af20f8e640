// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/cgroup"
)

// ThisKernel is the kernel that the shim itself runs on.
func ThisKernel(sup *process.Supervisor) Kernel { return thisKernel{sup} }

type thisKernel struct{ sup *process.Supervisor }

func (k thisKernel) Mount(bundle string, rootfs []Mount) error {
	return mountRootfs(k.sup, bundle, rootfs)
}

func (thisKernel) Unmount(bundle string) error { return unmountRootfs(bundle) }

func (thisKernel) OpenStreams(ctx context.Context, cfg process.StreamsConfig) (Streams, error) {
	s, err := process.OpenStreams(ctx, cfg)
	if err != nil {
		return nil, err // not s, which would be an interface that is not nil
	}
	return s, nil
}

func (thisKernel) Cgroup(_ string, init *process.Process) (Cgroup, error) {
	cg, err := cgroup.Open(init.Pid())
	if err != nil {
		return nil, err
	}
	return localCgroup{cg}, nil
}

// localCgroup is a cgroup of this kernel.
type localCgroup struct{ *cgroup.Cgroup }

func (c localCgroup) WatchOOM(notify func(kills uint64)) (io.Closer, error) {
	watch, err := c.Cgroup.WatchOOM(notify)
	if err != nil {
		return nil, err
	}
	return watch, nil
}

// Signal sends a signal to every process that is in the cgroup now. A pid may
// have been given to a stranger since it was listed, so the list is read again
// once the pidfds are open: who is in it then is the container's.
func (c localCgroup) Signal(_ context.Context, sig unix.Signal) error {
	listed, err := c.Pids()
	if err != nil {
		return err
	}
	fds := make(map[int]int, len(listed))
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range listed {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			fds[pid] = fd
		}
	}
	if listed, err = c.Pids(); err != nil {
		return err
	}
	var errs []error
	for _, pid := range listed {
		fd, ok := fds[pid]
		if !ok {
			continue // born meanwhile
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("send signal %d to process %d: %w", sig, pid, err))
		}
	}
	return errors.Join(errs...)
}

// cgroupRef holds a Cgroup or nil. Calls need no lock.
type cgroupRef struct{ p atomic.Pointer[Cgroup] }

func (r *cgroupRef) Load() Cgroup {
	if p := r.p.Load(); p != nil {
		return *p
	}
	return nil
}

func (r *cgroupRef) Store(cg Cgroup) { r.p.Store(&cg) }

// Clear returns what was held until now.
func (r *cgroupRef) Clear() Cgroup {
	if p := r.p.Swap(nil); p != nil {
		return *p
	}
	return nil
}
