// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"io"
	"sync/atomic"

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
