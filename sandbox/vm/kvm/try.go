// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Device is where KVM is asked for.
const Device = "/dev/kvm"

// runTimeout is how long the loop may take: some 10 ms on a KVM that works, even
// a nested one, with room for a host whose CPUs are busy.
const runTimeout = time.Second

var errSlow = fmt.Errorf("a guest did not count to %d in %v: its instructions are interpreted, or not run at all", rounds, runTimeout)

// Try has a virtual machine count. The error says what KVM could not do.
func Try(ctx context.Context, device string) error {
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }()
	m, err := newMachine(int(dev.Fd()))
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	defer m.close()
	if err := m.enterLongMode(); err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, errSlow)
	defer cancel()
	if err := m.run(ctx); err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	return nil
}

// run has the CPU go until it says what it computed.
func (m *machine) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread := unix.Gettid()
	// The signal that Go preempts threads by: its handler does nothing that
	// could hurt, and it makes KVM_RUN return EINTR. immediate_exit has the
	// next KVM_RUN return at once, should the signal come before it.
	stop := context.AfterFunc(ctx, func() {
		m.exitAtOnce()
		_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
	})
	defer stop()
	for {
		err := ioctl(m.cpu, kvmRun, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("run a guest's instructions: %w", err)
		}
		return m.judge()
	}
}
