// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Clone starts a machine that is what a template's was when it was put on
// record, with a share and NICs of its own. c must otherwise be the template's
// configuration (TemplateKey). If the template is Sharing, memory that the clone does
// not write to is left where it is, for all clones, and a share goes through a relay
// (vhostuser): virtiofsd would write to the template's. Otherwise it is copied.
//
// The guest sees its new devices when it has gone on, as it does when Clone
// returns.
func Clone(ctx context.Context, c Config, t *Template) (_ *Machine, retErr error) {
	if len(c.VFIO) > 0 {
		return nil, fmt.Errorf("clone %s would have a device of the host's, which a machine has from its boot on", c.ID)
	}
	if len(c.NICs)+1 > ports {
		return nil, fmt.Errorf("clone %s would have %d network interfaces: %d are possible", c.ID, len(c.NICs), ports-1)
	}
	if err := errors.Join(sealed(t.Memory), sealed(t.State)); err != nil {
		return nil, fmt.Errorf("clone %s: %w", c.ID, err)
	}
	info, err := t.Memory.Stat()
	if err != nil {
		return nil, fmt.Errorf("clone %s: %w", c.ID, err)
	}
	if info.Size() != int64(c.MemoryMiB)<<20 {
		return nil, fmt.Errorf("clone %s would have %d MiB of memory, its template has %d MiB", c.ID, c.MemoryMiB, info.Size()>>20)
	}
	state, err := reopen(t.State)
	if err != nil {
		return nil, fmt.Errorf("clone %s: %w", c.ID, err)
	}
	defer func() { _ = state.Close() }()
	private := t.Sharing
	c.origin = origin{memory: t.Memory, state: state, private: private, sharing: t.Sharing}
	copied := make(chan error, 1)
	if private {
		copied <- nil
	} else {
		memory, err := newMemory("clone", c.MemoryMiB)
		if err != nil {
			return nil, err
		}
		defer func() { _ = memory.Close() }()
		c.origin.memory = memory
		go func() { copied <- copyMemory(memory, t.Memory) }() // while QEMU starts
	}
	m, err := Boot(ctx, c)
	if err = errors.Join(err, <-copied); err == nil {
		err = m.goOn(ctx, c)
	}
	if err != nil {
		err = fmt.Errorf("clone %s: %w", c.ID, err)
		if m != nil {
			err = errors.Join(err, m.Close(context.WithoutCancel(ctx)))
		}
		return nil, err
	}
	return m, nil
}

// goOn makes the machine what it is to be, and lets it run.
func (m *Machine) goOn(ctx context.Context, c Config) error {
	if err := m.load(ctx, c.origin.state); err != nil {
		return err
	}
	if err := m.plugAll(ctx, c); err != nil {
		return err
	}
	return m.Resume(ctx)
}

// reopen gives the file an offset of its own: clones read it at the same time.
func reopen(f *os.File) (again *os.File, err error) {
	err = control(f, func(fd int) error {
		again, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
		return err
	})
	return again, err
}
