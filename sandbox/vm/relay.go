// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"net"
	"os"

	"berth/sandbox/vm/vhostuser"
)

// relayShare puts a relay between virtiofsd and a QEMU whose memory is nobody
// else's. It returns QEMU's end.
func (b *booting) relayShare(daemon *os.File) (*os.File, error) {
	ours, theirs, err := b.pair("share")
	if err != nil {
		return nil, err
	}
	conn, err := net.FileConn(daemon)
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("connect to the daemon of the shared file system: %w", err)
	}
	b.machine.relay, err = vhostuser.New(ours, conn.(*net.UnixConn), b.machine.openMemory)
	return theirs, err
}

// serveShare has the relay of a machine whose QEMU runs do its work.
func (m *Machine) serveShare() {
	m.readers.Go(func() {
		if err := m.relay.Serve(); err != nil {
			m.Kill(err.Error())
		}
	})
}

// openMemory opens QEMU's memory, for as long as QEMU has it.
func (m *Machine) openMemory() (*os.File, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", m.vmm.Pid()), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the monitor's memory: %w", err)
	}
	// If it has not been reaped now, the number was its own then.
	if err := m.vmm.Signal(0); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open the monitor's memory: %w", err)
	}
	return f, nil
}

// endRelay has the relay end, whose QEMU may have left it something to do.
func (m *Machine) endRelay() {
	if m.relay != nil {
		m.relay.End()
	}
}
