// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"berth/process"
	"berth/sandbox/vm/jail"
	"berth/sandbox/vm/qmp"
)

// Boot starts a machine. It returns once QEMU answers; the guest then boots,
// and its agent is heard on the machine's Transport. On an error nothing is left.
func Boot(ctx context.Context, c Config) (_ *Machine, retErr error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	accel, err := Choose(ctx, c.Accel, "")
	if err != nil {
		return nil, err
	}
	b := &booting{Config: c, machine: newMachine(&c, accel)}
	defer func() {
		if retErr != nil {
			b.undo()
		}
	}()
	if err := b.makeCgroup(); err != nil {
		return nil, err
	}
	err = b.start()
	closeAll(b.theirs...) // the programs have their own, and what ends is to be seen to end
	if err != nil {
		return nil, err
	}
	if err := b.greet(ctx); err != nil {
		return nil, err
	}
	go b.machine.supervise()
	return b.machine, nil
}

// booting is a machine on its way.
type booting struct {
	Config
	machine *Machine
	monitor *net.UnixConn // until the client has it
	theirs  []*os.File    // what the programs inherit
}

// pair makes a connection; their end is closed once the programs run.
func (b *booting) pair(what string) (*net.UnixConn, *os.File, error) {
	ours, theirs, err := connect(what)
	if err == nil {
		b.theirs = append(b.theirs, theirs)
	}
	return ours, theirs, err
}

// start makes all connections and both programs.
func (b *booting) start() (err error) {
	m := b.machine
	var e ends
	if m.transport, e.agent, err = b.pair("agent"); err != nil {
		return err
	}
	if b.monitor, e.monitor, err = b.pair("monitor"); err != nil {
		return err
	}
	console, theirConsole, err := b.pair("console")
	if err != nil {
		return err
	}
	e.console = theirConsole
	m.collect(m.console, console)
	log, theirLog, err := b.pair("log")
	if err != nil {
		return err
	}
	m.collect(m.log, log)

	if b.Share != "" {
		listener, connected, err := listen("share")
		if err != nil {
			return err
		}
		b.theirs = append(b.theirs, listener, connected)
		e.share = connected
		if b.origin.private {
			if e.share, err = b.relayShare(connected); err != nil {
				return err
			}
		}
		// The log is a socket of which we hold the other end.
		if m.share, err = b.startShare(listener, theirLog, theirLog, m.cgroupDirs()); err != nil {
			return err
		}
	}
	if m.vmm, err = b.startVMM(e, theirLog); err == nil && m.relay != nil {
		m.serveShare()
	}
	return err
}

func (b *booting) startVMM(e ends, log *os.File) (*process.Process, error) {
	fds := descriptors{nil, log, log}
	args, err := b.arguments(b.machine.accel, e, &fds)
	if err != nil {
		return nil, err
	}
	spec, err := b.vmmJail(args, b.machine.accel, 2, b.machine.cgroupDirs())
	if err != nil {
		return nil, err
	}
	if b.Network != nil {
		spec.Network = fds.add(b.Network)
	}
	p, err := b.launch(spec, fds, jail.Namespaces)
	if err != nil {
		return nil, fmt.Errorf("start the virtual machine monitor: %w", err)
	}
	return p, nil
}

// greet connects to the monitor. QEMU does not answer before virtiofsd has.
func (b *booting) greet(ctx context.Context) (err error) {
	m := b.machine
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, p := range m.programs() {
		watched := make(chan struct{})
		defer func() { <-watched }()
		go func() {
			defer close(watched)
			select {
			case <-p.Done():
				cancel(errEnded)
			case <-ctx.Done():
			}
		}()
	}
	m.qmp, err = qmp.Dial(ctx, b.monitor, m.event)
	b.monitor = nil // the client's, in any case
	cancel(nil)
	if err == nil {
		return nil
	}
	if errors.Is(err, errEnded) || errors.Is(err, qmp.ErrClosed) {
		m.end() // the last words are there once all has ended
		if said := printable(m.log.Bytes(), quoted); said != "" {
			return fmt.Errorf("machine %s does not start: %s", b.ID, said)
		}
	}
	return fmt.Errorf("machine %s does not start: %w", b.ID, err)
}

var errEnded = errors.New("its programs have ended")

// undo ends what runs and lets go of all there is.
func (b *booting) undo() {
	if b.monitor != nil {
		_ = b.monitor.Close()
	}
	b.machine.end()
	if b.machine.relay != nil && b.machine.vmm == nil {
		b.machine.relay.Discard() // nobody serves it
	}
	_ = b.machine.letGo(context.Background()) // the error that led here is told
}
