// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"berth/process"
	"berth/process/cgroup"
	"berth/sandbox/vm/qmp"
	"berth/sandbox/vm/vhostuser"
)

// Machine is a virtual machine, from Boot on.
type Machine struct {
	id        string
	accel     Accel
	memoryMiB int // with which it was booted, as with cpus
	cpus      int
	transport *net.UnixConn
	qmp       *qmp.Client
	vmm       *process.Process
	share     *process.Process // nil without one
	relay     *vhostuser.Relay // nil where virtiofsd works in the guest's memory
	cgroup    *cgroup.Cgroup   // nil without one
	console   *tail
	log       *tail
	readers   sync.WaitGroup // of console, log and share

	kill     chan string   // capacity 1: why it is to be killed
	shutdown chan string   // capacity 1: what the monitor says of the guest's end
	done     chan struct{} // closed when it is dead
	gone     chan struct{} // closed when nothing of it runs any more
	exit     *Exit         // set before done is closed

	private   bool          // its memory is its template's where it has not written
	ballooned chan struct{} // capacity 1: the guest's memory may have changed
	cpuset    bool          // it has been bound to CPUs; whoever calls Limit has this

	disks disks
	ports chan int // the numbers of those that are free

	migrated chan string // capacity 4: how far a migration is
	memory   *os.File    // of a template, until Record
	sharing  bool        // of a template: see BootTemplate
}

func newMachine(c *Config, accel Accel) *Machine {
	return &Machine{
		id: c.ID, accel: accel, memoryMiB: c.MemoryMiB, cpus: c.CPUs, private: c.origin.private, ballooned: make(chan struct{}, 1), console: newTail(consoleSize), log: newTail(vmmSize),
		kill: make(chan string, 1), shutdown: make(chan string, 1),
		done: make(chan struct{}), gone: make(chan struct{}),
		disks: newDisks(), ports: c.freePorts(), migrated: make(chan string, 4),
	}
}

// Transport is the stream to the guest's agent. Closing it has the guest power
// off.
func (m *Machine) Transport() io.ReadWriteCloser { return m.transport }

// Pid is QEMU's.
func (m *Machine) Pid() int { return m.vmm.Pid() }

// Size is that with which the machine was booted.
func (m *Machine) Size() (memoryMiB, cpus int) { return m.memoryMiB, m.cpus }

// Accel is what runs the guest's instructions.
func (m *Machine) Accel() Accel { return m.accel }

// Console is the last 64 KiB that the guest wrote to its console. A guest
// chooses what is there.
func (m *Machine) Console() []byte { return m.console.Bytes() }

// Done is closed when the machine is dead, whatever ended it.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Exit is how the machine ended, or nil until Done is closed.
func (m *Machine) Exit() *Exit {
	select {
	case <-m.done:
		return m.exit
	default:
		return nil
	}
}

// Kill ends the machine, giving a reason. It asks nobody, neither the guest nor
// QEMU, and does not wait: Done tells.
func (m *Machine) Kill(why string) {
	select {
	case m.kill <- why:
	default: // it is being killed already
	}
}

// Close kills the machine if it lives, waits until nothing of it runs, and lets
// go of all that it had, its cgroup included. It may be called again.
func (m *Machine) Close(ctx context.Context) error {
	m.Kill("it is no longer needed")
	select {
	case <-m.gone:
	case <-ctx.Done():
		return fmt.Errorf("wait for the processes of machine %s: %w", m.id, context.Cause(ctx))
	}
	return m.letGo(ctx)
}
