// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Template is a machine on record: what its memory and its devices were like.
// Both are sealed, so that nobody who has them can change what another gets.
type Template struct {
	Memory, State *os.File
	// Sharing is that of BootTemplate.
	Sharing bool
}

// Close lets go of the template; clones that there are live on.
func (t *Template) Close() { closeAll(t.Memory, t.State) }

// BootTemplate starts a machine that is to be put on record, with the lowest
// priority. It has neither a share nor NICs: clones get them by themselves. With
// sharing its clones can leave its memory where it is.
func BootTemplate(ctx context.Context, c Config, sharing bool) (*Machine, error) {
	if c.Share != "" || len(c.NICs) > 0 {
		return nil, fmt.Errorf("template %s would have a share or NICs: those are its clones'", c.ID)
	}
	memory, err := newMemory("template", c.MemoryMiB)
	if err != nil {
		return nil, err
	}
	c.origin = origin{memory: memory, sharing: sharing}
	m, err := Boot(ctx, c)
	if err != nil {
		_ = memory.Close()
		return nil, err
	}
	m.memory, m.sharing = memory, sharing
	return m, nil
}

// Record puts a machine of BootTemplate on record, and ends it. Its guest must
// have nothing under way, with the host least of all.
func (m *Machine) Record(ctx context.Context) (_ *Template, retErr error) {
	if m.memory == nil {
		return nil, fmt.Errorf("machine %s was not booted to be a template", m.id)
	}
	defer func() {
		if retErr != nil {
			retErr = fmt.Errorf("put machine %s on record: %w", m.id, retErr)
		}
	}()
	info, err := m.memory.Stat()
	if err != nil {
		return nil, err
	}
	if err := m.squeeze(ctx, int(info.Size()>>20)); err != nil {
		return nil, err
	}
	if err := m.Pause(ctx); err != nil {
		return nil, err
	}
	state, err := newMemory("state", 0)
	if err != nil {
		return nil, err
	}
	t := &Template{State: state, Sharing: m.sharing}
	defer func() {
		if retErr != nil {
			t.Close()
		}
	}()
	if err := m.save(ctx, state); err != nil {
		return nil, err
	}
	if m.sharing {
		if err := fill(m.memory, info.Size()); err != nil {
			return nil, err
		}
	}
	t.Memory, m.memory = m.memory, nil
	// Memory that somebody can write to cannot be sealed.
	if err := m.Close(ctx); err != nil {
		return nil, err
	}
	return t, errors.Join(seal(t.Memory), seal(t.State))
}

// newMemory makes a file in memory.
func newMemory(name string, mib int) (*os.File, error) {
	fd, err := unix.MemfdCreate("berth-"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make the memory of a machine: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(int64(mib) << 20); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make the memory of a machine: %w", err)
	}
	return f, nil
}

// fill has a file have no holes. A clone that writes where its template has one
// gets two pages: its own, and one that the kernel puts into the hole first
// (do_cow_fault in mm/memory.c). Whose clone is the first would be charged for that,
// and killed for memory that it was promised.
func fill(f *os.File, size int64) error {
	return control(f, func(fd int) error {
		if err := unix.Fallocate(fd, 0, 0, size); err != nil {
			return fmt.Errorf("have all memory of the template there: %w", err)
		}
		return nil
	})
}

// seals keep a template what it is, whoever has a descriptor (fcntl(2)).
const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

func seal(f *os.File) error {
	return control(f, func(fd int) error {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
			return fmt.Errorf("seal %s: %w", f.Name(), err)
		}
		return nil
	})
}

// sealed is an error for a file that somebody can change.
func sealed(f *os.File) error {
	return control(f, func(fd int) error {
		got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
		if err != nil {
			return fmt.Errorf("look for the seals of %s: %w", f.Name(), err)
		}
		if got&seals != seals {
			return fmt.Errorf("%s has the seals %#x: it could be changed", f.Name(), got)
		}
		return nil
	})
}

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if ctrlErr := raw.Control(func(fd uintptr) { err = do(int(fd)) }); ctrlErr != nil {
		return ctrlErr
	}
	return err
}

// Held is how much memory the template takes, in bytes.
func (t *Template) Held() (n int64) {
	for _, f := range []*os.File{t.Memory, t.State} {
		if info, err := f.Stat(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
	}
	return n
}
