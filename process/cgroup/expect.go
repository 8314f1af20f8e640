// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// expectInterval is how long an attach is not expected anew: what was expected,
// and came, has the next one wait for little.
const expectInterval = 20 * time.Millisecond

var (
	expecting atomic.Bool  // while ExpectAttach is at work
	expected  atomic.Int64 // when it was last done, in nanoseconds since began
	began     = time.Now()
)

// ExpectAttach has the kernel prepare for a process that is about to be put
// into a cgroup, here or by a runtime, and does not wait for it.
//
// Of the processes that are put into cgroups anywhere on a host, the first in a
// while waits for a grace period of RCU, 5 to 8 ms on a small machine, and those
// that follow within the next one do not: cgroup_threadgroup_rwsem is read by
// each fork and exit, and it is its writers that pay for that being cheap
// (kernel/cgroup/cgroup.c, cgroup_attach_lock; kernel/rcu/sync.c). So this
// process is put where it is already, from beside, while what has to be done
// before is done. That holds up whoever makes or removes a cgroup meanwhile, as
// the other would have done. It is no error where it cannot be had.
func ExpectAttach() {
	if at := expected.Load(); at != 0 && time.Since(began)-time.Duration(at) < expectInterval {
		return
	}
	if expecting.CompareAndSwap(false, true) { // else the kernel has heard of it
		go func() {
			defer expecting.Store(false)
			_ = attachSelf()
			expected.Store(int64(time.Since(began)))
		}()
	}
}

// attachSelf puts this process into a cgroup that it is in.
func attachSelf() error {
	procs, err := ownProcs()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(procs, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("0") // who writes (cgroups(7))
	return errors.Join(err, f.Close())
}

// ownProcs is the cgroup.procs of a cgroup that this process is in.
func ownProcs() (string, error) {
	mounts, err := view{}.known()
	if err != nil {
		return "", err
	}
	loc, err := view{}.locate("self", mounts)
	if err != nil {
		return "", err
	}
	for _, dir := range loc.Dirs { // any will do: the lock is the same
		return filepath.Join(dir.Path, "cgroup.procs"), nil
	}
	return "", errors.New("this process is in no cgroup")
}
