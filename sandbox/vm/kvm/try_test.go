// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// Both outcomes are right somewhere; what must not happen is a third.
func TestTry(t *testing.T) {
	if _, err := os.Stat(Device); err != nil {
		t.Skipf("no KVM here: %v", err)
	}
	begin := time.Now()
	switch err := Try(t.Context(), Device); {
	case err == nil:
		t.Logf("KVM runs guests here; that was known after %v", time.Since(begin))
	case errors.Is(err, errSlow):
		t.Logf("after %v: %v", time.Since(begin), err)
	default:
		t.Error(err)
	}
}

func TestNoDevice(t *testing.T) {
	if err := Try(t.Context(), "/dev/nokvm"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAnotherDevice(t *testing.T) {
	if err := Try(t.Context(), os.DevNull); err == nil {
		t.Error("/dev/null runs guests")
	}
}

// The sizes are in the ioctls' numbers; the kernel checks them.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(sregs{}); n != 0x138 {
		t.Errorf("sregs has %#x bytes", n)
	}
	if n := unsafe.Sizeof(regs{}); n != 0x90 {
		t.Errorf("regs has %#x bytes", n)
	}
}

func TestCanBeGivenUp(t *testing.T) {
	if _, err := os.Stat(Device); err != nil {
		t.Skipf("no KVM here: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Try(ctx, Device); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTryOnceBelievesItsNote(t *testing.T) {
	file := filepath.Join(t.TempDir(), "slow")
	if err := TryOnce(t.Context(), "/dev/nokvm", file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a note: %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an error that comes at once was kept: %v", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := TryOnce(t.Context(), "/dev/nokvm", file); !errors.Is(err, errSlow) {
		t.Errorf("with a note: %v", err)
	}
	old := time.Now().Add(-memoLife)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if err := TryOnce(t.Context(), "/dev/nokvm", file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with an old note: %v", err)
	}
}

func TestTryOnceNotesWhatIsSlow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "slow")
	if err := TryOnce(t.Context(), Device, file); !errors.Is(err, errSlow) {
		t.Skipf("KVM is not slow here: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}
