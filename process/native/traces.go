// SPDX-License-Identifier: Apache-2.0

package native

import (
	"slices"
	"sync"
	_ "unsafe" // for go:linkname

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// underWay counts the calls of the library under way in this program, whichever
// Driver's. Some leave traces in the program, which runc's command line, that ends
// with its call, can leave; here the last call to end removes them.
var underWay struct {
	sync.Mutex
	n int
}

func beginCall() {
	underWay.Lock()
	defer underWay.Unlock()
	ownMemlock() // as long as it is
	underWay.n++
}

func endCall() {
	underWay.Lock()
	defer underWay.Unlock()
	if underWay.n--; underWay.n == 0 {
		closeBus()
		lowerMemlock()
	}
}

// The library keeps its two connections to the system bus, once it has them, and has
// no call that closes them. Each shim would have a part of the connections that the
// bus allows one user (256, root), and be woken by every job of this host's systemd.
// A variable that the library no longer has is nil here, and TestNoBusIsKept fails.
//
//go:linkname libraryConn github.com/opencontainers/cgroups/systemd.dbusC
var libraryConn *systemd.Conn

//go:linkname libraryMu github.com/opencontainers/cgroups/systemd.dbusMu
var libraryMu sync.RWMutex

func closeBus() {
	libraryMu.Lock()
	conn := libraryConn
	libraryConn = nil // the next call that needs one connects anew
	libraryMu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

// ownMemlock is the limit of locked memory that this program began with. The library
// raises it to load the program of a cgroup's devices (v2).
var ownMemlock = sync.OnceValue(func() unix.Rlimit {
	var own unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &own) // fails for no reason that there can be
	return own
})

func lowerMemlock() {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &now); err != nil || now == ownMemlock() {
		return
	}
	own := ownMemlock()
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &own) // a limit may always be lowered
}

// inheritMemlock gives a process of a container the limit that it would inherit had no
// other call under way raised it. Where none has, it is left to inherit, as runc does:
// the library sets limits from outside, for which a user namespace's process can be out of reach
// of a program without CAP_SYS_RESOURCE. A call that raises it only now comes too late to be seen.
func inheritMemlock(limits []configs.Rlimit) []configs.Rlimit {
	if slices.ContainsFunc(limits, func(l configs.Rlimit) bool { return l.Type == unix.RLIMIT_MEMLOCK }) {
		return limits
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &now); err != nil || now == ownMemlock() {
		return limits
	}
	own := ownMemlock()
	return append(limits, configs.Rlimit{Type: unix.RLIMIT_MEMLOCK, Hard: own.Max, Soft: own.Cur})
}
