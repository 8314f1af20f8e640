// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/vm/qmp"
)

const (
	// shutdownTimeout is how long QEMU may take to end after the guest has; it
	// takes some 20 ms.
	shutdownTimeout = 500 * time.Millisecond
	// reapTimeout is how long a killed QEMU may take to be reaped before the
	// machine is called dead all the same: none of its CPUs runs any more,
	// but the kernel frees large memory slowly.
	reapTimeout = 500 * time.Millisecond
)

// collect keeps what comes over a connection, until its end.
func (m *Machine) collect(to *tail, from *net.UnixConn) {
	m.readers.Add(1)
	go func() {
		defer m.readers.Done()
		defer func() { _ = from.Close() }()
		to.fill(from)
	}()
}

// event takes the monitor's events; it runs on the client's goroutine.
func (m *Machine) event(e qmp.Event) {
	switch e.Name {
	case "SHUTDOWN":
		select {
		case m.shutdown <- shutdownReason(e.Data):
		default: // one is enough
		}
	case "DEVICE_DELETED":
		m.disks.deleted(e.Data)
	}
}

// supervise waits for the end of the machine, whoever brings it about, and then
// for the end of its processes. It asks nobody anything.
func (m *Machine) supervise() {
	defer close(m.gone)
	var shareDone <-chan struct{}
	if m.share != nil {
		shareDone = m.share.Done()
	}
	exit := &Exit{}
	select {
	case said := <-m.shutdown:
		exit.Reason, exit.Detail = guestEnded(said)
		waitFor(m.vmm, shutdownTimeout)
	case <-m.vmm.Done():
		exit.Reason, exit.Detail = m.vmmEnded()
	case <-m.qmp.Done(): // QEMU closes it when it ends, and has no other reason to
		exit.Reason, exit.Detail = VMMEnded, "it hung up"
		if waitFor(m.vmm, shutdownTimeout) {
			exit.Reason, exit.Detail = m.vmmEnded()
		}
	case <-shareDone:
		exit.Reason, exit.Detail = ShareEnded, describe(m.share.Exit())
	case why := <-m.kill:
		exit.Reason, exit.Detail = Killed, why
	}
	if m.endWithin(reapTimeout) {
		m.readers.Wait() // the last words are on their way
	}
	exit.At, exit.Console, exit.VMM = time.Now(), m.console.Bytes(), m.log.Bytes()
	m.exit = exit
	close(m.done)
	m.end()
}

// vmmEnded is how QEMU ended, which may have told of the guest's end first.
func (m *Machine) vmmEnded() (Reason, string) {
	select {
	case said := <-m.shutdown:
		return guestEnded(said)
	default:
		return VMMEnded, describe(m.vmm.Exit())
	}
}

// endWithin kills both programs; it is false if they were not reaped in time.
func (m *Machine) endWithin(limit time.Duration) bool {
	ended := true
	for _, p := range m.programs() {
		_ = p.Signal(unix.SIGKILL) // one that has ended is not found
	}
	for _, p := range m.programs() {
		ended = waitFor(p, limit) && ended
	}
	return ended
}

// end kills both programs and waits for them, and for their last words.
func (m *Machine) end() {
	for _, p := range m.programs() {
		_ = p.Signal(unix.SIGKILL)
		<-p.Done()
	}
	m.readers.Wait()
}

// programs are those that were started.
func (m *Machine) programs() (started []*process.Process) {
	for _, p := range []*process.Process{m.vmm, m.share} {
		if p != nil {
			started = append(started, p)
		}
	}
	return started
}

// letGo closes what is open, when nothing runs any more.
func (m *Machine) letGo(ctx context.Context) error {
	if m.transport != nil {
		_ = m.transport.Close()
	}
	if m.qmp != nil {
		m.qmp.Close()
	}
	return m.removeCgroup(ctx)
}

// waitFor is false if the process did not end in time.
func waitFor(p *process.Process, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.Done():
		return true
	case <-timer.C:
		return false
	}
}

func describe(e process.Exit) string {
	if e.Status > 128 {
		return fmt.Sprintf("signal %d, %s", e.Status-128, unix.SignalName(unix.Signal(e.Status-128)))
	}
	return fmt.Sprintf("exit status %d", e.Status)
}
