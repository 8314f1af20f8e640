// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// asOwner calls f on a thread whose fsuid and fsgid are the container's root.
// A thread that cannot be set back ends with its goroutine, which is therefore
// one of its own: the Go runtime ends a thread whose goroutine exits locked.
func (r *Root) asOwner(f func() error) error {
	if r.uid == 0 && r.gid == 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := setFSIDs(r.uid, r.gid)
		if err == nil {
			err = f()
		}
		if setFSIDs(0, 0) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// setFSIDs sets the calling thread's ids of setfsuid(2) and setfsgid(2), which
// report no errors: an id that is no id (-1) changes nothing and tells what holds.
// Leaving fsuid 0 also takes CAP_DAC_OVERRIDE and its like from the thread.
func setFSIDs(uid, gid int) error {
	unix.SetfsgidRetGid(gid)
	unix.SetfsuidRetUid(uid)
	g, gidErr := unix.SetfsgidRetGid(-1)
	u, uidErr := unix.SetfsuidRetUid(-1)
	if u != uid || g != gid || gidErr != nil || uidErr != nil {
		return fmt.Errorf("act as the container's root, uid %d gid %d: the kernel kept %d and %d: %w", uid, gid, u, g, unix.EPERM)
	}
	return nil
}
