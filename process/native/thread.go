// SPDX-License-Identifier: Apache-2.0

package native

import "runtime"

// init keeps the process's first thread for the main goroutine. The library has
// goroutines that join a container's mount namespace and then end together with
// their threads. The first thread cannot end: Go parks it as it is, and
// /proc/self, which is that thread's, would show the container from then on. Go
// promises the first thread to main only to who asks for it during
// initialisation (runtime.LockOSThread).
func init() { runtime.LockOSThread() }
