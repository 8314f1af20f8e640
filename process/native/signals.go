// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// unheard takes what was ignored and drops it: nobody reads it.
var unheard = make(chan os.Signal, 1)

// hearIgnored has containers begin with no signal ignored, as runc's do, which hears all.
// The program of a containerd that was started with nohup has SIGHUP ignored, and
// a container would inherit that (execve(2); a signal that is heard goes back to
// its default). These two are the only ones that Go leaves ignored (os/signal).
func hearIgnored() {
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(unheard, s)
		}
	}
}
