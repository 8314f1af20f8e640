// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

const (
	// shutdownTimeout is how long QEMU may take to end after the guest has; it
	// takes some 20 ms.
	shutdownTimeout = 500 * time.Millisecond
	// shareGrace is how much later than virtiofsd, which was killed or failed, QEMU
	// may be seen to end and still be the cause: somebody may have killed both.
	shareGrace = 50 * time.Millisecond
)

// cause waits for the end of the machine and says what brought it about.
func (m *Machine) cause() (Reason, string) {
	var shareDone <-chan struct{}
	if m.share != nil {
		shareDone = m.share.Done()
	}
	select {
	case why := <-m.kill:
		return Killed, why
	case said := <-m.shutdown:
		waitFor(m.vmm, shutdownTimeout)
		return guestEnded(said)
	case <-m.vmm.Done():
	case <-m.qmp.Done(): // QEMU closes it when it ends, and has no other reason to
	case <-shareDone:
		if m.shareIsCause() {
			return ShareEnded, describe(m.share.Exit())
		}
	}
	return m.vmmEnded()
}

// shareIsCause judges the end of virtiofsd. It ends by itself, and well, once QEMU hangs
// up, which that does in the middle of its own end: on a busy host that may be seen much
// later.
func (m *Machine) shareIsCause() bool {
	grace := shareGrace
	if exit := m.share.Exit(); exit.Known && exit.Status == 0 {
		grace = shutdownTimeout
	}
	return !waitFor(m.vmm, grace)
}

// vmmEnded is how QEMU ended, which may have told of the guest's end first.
func (m *Machine) vmmEnded() (Reason, string) {
	ended := waitFor(m.vmm, shutdownTimeout)
	if ended {
		<-m.qmp.Done() // all that it said has been read: nobody else has that end
	}
	select {
	case said := <-m.shutdown:
		return guestEnded(said)
	default:
	}
	if !ended {
		return VMMEnded, "it hung up"
	}
	return VMMEnded, describe(m.vmm.Exit())
}

// shutdownReason is the reason in the monitor's event SHUTDOWN.
func shutdownReason(data json.RawMessage) string {
	var d struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(data, &d) != nil || len(d.Reason) > 64 {
		return "unknown"
	}
	return d.Reason
}

// guestEnded turns the monitor's reason (ShutdownCause, qapi/run-state.json)
// into ours.
func guestEnded(said string) (Reason, string) {
	switch said {
	case "guest-shutdown":
		return PoweredOff, ""
	case "guest-reset", "guest-panic":
		return Reset, ""
	}
	return VMMEnded, printable([]byte(said), 64)
}

func describe(e process.Exit) string {
	if e.Status > 128 {
		return fmt.Sprintf("signal %d, %s", e.Status-128, unix.SignalName(unix.Signal(e.Status-128)))
	}
	return fmt.Sprintf("exit status %d", e.Status)
}

// outOfMemory is true for the last words of a kernel that has nobody left to
// kill (out_of_memory, mm/oom_kill.c). A guest that only says so has ended all
// the same.
func outOfMemory(console []byte) bool {
	return bytes.Contains(console, []byte("Kernel panic - not syncing: System is deadlocked on memory")) ||
		bytes.Contains(console, []byte("Kernel panic - not syncing: Out of memory"))
}

// oomCause looks, if a program of the machine's ended without a word, whether it
// was the host's OOM killer that ended it.
func (m *Machine) oomCause(reason Reason, detail string) (Reason, string) {
	if m.cgroup == nil || reason != VMMEnded && reason != ShareEnded {
		return reason, detail
	}
	if kills, err := m.cgroup.OOMKills(); err != nil || kills == 0 {
		return reason, detail
	}
	return HostOOM, fmt.Sprintf("the machine was booted with %d MiB; if its pod has less than that and %d MiB for its overhead, raise the overhead of its RuntimeClass",
		m.memoryMiB, overheadMiB(m.accel, m.memoryMiB))
}
