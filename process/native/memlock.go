// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"sync"
	"syscall"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// ownMemlock has the library keep a limit to itself that it raises for the program, to
// load what guards a cgroup's devices (v2), and leaves so. runc's command line ends with
// its call; here all that is begun later, containers, hooks and other runtimes, would
// inherit it (getrlimit(2)). A library that sets devices otherwise fails
// TestMemlockIsInherited.
var ownMemlock = sync.OnceFunc(func() {
	if cgroups.DevicesSetV2 != nil {
		cgroups.DevicesSetV2 = keepingMemlock(cgroups.DevicesSetV2)
	}
})

// keepingMemlock is set, by one call at a time, beside which this program begins no
// process, and then with the limit of locked memory as it was.
func keepingMemlock(set func(string, *cgroups.Resources) error) func(string, *cgroups.Resources) error {
	var alone sync.Mutex // or one call would lower the limit for another
	return func(path string, r *cgroups.Resources) error {
		alone.Lock()
		defer alone.Unlock()
		syscall.ForkLock.RLock() // whoever forks locks it for writing
		defer syscall.ForkLock.RUnlock()
		var own unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &own); err != nil {
			return fmt.Errorf("read the limit of locked memory: %w", err)
		}
		defer func() { _ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &own) }() // a limit may always be lowered
		return set(path, r)
	}
}
