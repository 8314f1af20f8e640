// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agent"
)

var (
	_ Disker      = (*fakeMachine)(nil)
	_ agent.Disks = loopDisks("")
)

// loopDisks are the disks of an agent that is an ordinary process: loop devices,
// to which a directory has links by their serial numbers.
type loopDisks string

func (d loopDisks) Find(_ context.Context, serial string) (string, error) {
	return os.Readlink(filepath.Join(string(d), serial))
}

func (d loopDisks) Remove(string) error { return nil }

// AddDisk makes a loop device, which goes with the last who has it open (loop(4)).
func (m *fakeMachine) AddDisk(_ context.Context, serial string, f *os.File, readOnly bool) error {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd())}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if readOnly {
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fmt.Errorf("find a free loop device: %w", err)
		}
		node := fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(node, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			m.disks.Store(serial, loop)
			return os.Symlink(node, filepath.Join(m.diskDir, serial))
		}
		_ = loop.Close()
		if !errors.Is(err, unix.EBUSY) { // else somebody was quicker
			return fmt.Errorf("configure %s: %w", node, err)
		}
	}
}

func (m *fakeMachine) RemoveDisk(_ context.Context, serial string) error {
	loop, ok := m.disks.LoadAndDelete(serial)
	if !ok {
		return fmt.Errorf("disk %s: %w", serial, errdefs.ErrNotFound)
	}
	// A real one would be gone for whoever uses it.
	f, err := os.OpenFile(loop.(*os.File).Name(), os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		err = fmt.Errorf("disk %s is taken away while it is used: %w", serial, err)
	} else {
		_ = f.Close()
	}
	return errors.Join(err, loop.(*os.File).Close(), os.Remove(filepath.Join(m.diskDir, serial)))
}

// closeDisks lets go of those that a machine had at its end.
func (m *fakeMachine) closeDisks() {
	m.disks.Range(func(serial, _ any) bool {
		_ = m.RemoveDisk(context.Background(), serial.(string))
		return true
	})
}
