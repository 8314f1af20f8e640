// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/vm/qmp"
)

// reapTimeout is how long killed programs may take to be reaped before the
// machine is called dead all the same: none of its CPUs runs any more, but the
// kernel frees large memory slowly.
const reapTimeout = 500 * time.Millisecond

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
	case "MIGRATION":
		m.migration(e.Data)
	case "BALLOON_CHANGE":
		select {
		case m.ballooned <- struct{}{}:
		default: // somebody will look
		}
	case "DEVICE_DELETED":
		m.disks.deleted(e.Data)
	}
}

// supervise waits for the end of the machine, whoever brings it about, and then
// for the end of its processes. It asks nobody anything.
func (m *Machine) supervise() {
	defer close(m.gone)
	exit := &Exit{}
	exit.Reason, exit.Detail = m.oomCause(m.cause())
	if m.endWithin(reapTimeout) {
		m.readers.Wait() // the last words are on their way
	}
	exit.At, exit.Console, exit.VMM = time.Now(), m.console.Bytes(), m.log.Bytes()
	if exit.Reason == Reset && outOfMemory(exit.Console) {
		exit.Reason = GuestOOM
	}
	m.exit = exit
	close(m.done)
	m.end()
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
	m.endRelay()
	return ended
}

// end kills both programs and waits for them, and for their last words.
func (m *Machine) end() {
	for _, p := range m.programs() {
		_ = p.Signal(unix.SIGKILL)
		<-p.Done()
	}
	m.endRelay()
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
