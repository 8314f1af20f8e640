// SPDX-License-Identifier: Apache-2.0

package native

import (
	"sync"
	_ "unsafe" // for go:linkname

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// underWay counts the calls of the library under way in this program, whichever
// Driver's. Some leave traces in the program, which runc's command line, that ends
// with its call, can leave; here the last call to end removes them.
var underWay struct {
	sync.Mutex
	n int
}

func beginCall() {
	ownMemlock()
	underWay.Lock()
	defer underWay.Unlock()
	underWay.n++
}

func endCall() {
	underWay.Lock()
	defer underWay.Unlock()
	if underWay.n--; underWay.n == 0 {
		closeBus()
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
