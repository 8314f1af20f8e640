// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What of the interface is used (Documentation/virt/kvm/api.rst and
// include/uapi/linux/kvm.h): ioctls, exit reasons, and offsets in struct kvm_run.
const (
	kvmGetAPIVersion       = 0xae00
	kvmCreateVM            = 0xae01
	kvmGetVCPUMmapSize     = 0xae04
	kvmCreateVCPU          = 0xae41
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmRun                 = 0xae80
	kvmSetRegs             = 0x4090ae82
	kvmGetSregs            = 0x8138ae83
	kvmSetSregs            = 0x4138ae84
	kvmGetSupportedCPUID   = 0xc008ae05
	kvmSetCPUID2           = 0x4008ae90

	apiVersion = 12

	exitIO = 2

	offImmediateExit = 1  // u8
	offExitReason    = 8  // u32
	offIODirection   = 32 // u8; 1 is out
	offIOSize        = 33 // u8, bytes
	offIOPort        = 34 // u16
	offIOData        = 40 // u64, an offset from the beginning
)

// machine is a virtual machine with one CPU and a little memory.
type machine struct {
	vm, cpu int
	memory  []byte
	state   []byte // struct kvm_run
}

func newMachine(dev int) (_ *machine, retErr error) {
	if v, err := ioctlInt(dev, kvmGetAPIVersion, 0); err != nil || v != apiVersion {
		return nil, fmt.Errorf("its interface has version %d, not %d (%v)", v, apiVersion, err)
	}
	m := &machine{vm: -1, cpu: -1}
	defer func() {
		if retErr != nil {
			m.close()
		}
	}()
	var err error
	if m.vm, err = ioctlInt(dev, kvmCreateVM, 0); err != nil {
		return nil, fmt.Errorf("make a virtual machine: %w", err)
	}
	if m.memory, err = unix.Mmap(-1, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("get memory for a virtual machine: %w", err)
	}
	region := struct {
		slot, flags    uint32
		guest, size    uint64
		hostOfTheGuest uint64
	}{size: memorySize, hostOfTheGuest: uint64(uintptr(unsafe.Pointer(&m.memory[0])))}
	if err := ioctl(m.vm, kvmSetUserMemoryRegion, uintptr(unsafe.Pointer(&region))); err != nil {
		return nil, fmt.Errorf("give memory to a virtual machine: %w", err)
	}
	if m.cpu, err = ioctlInt(m.vm, kvmCreateVCPU, 0); err != nil {
		return nil, fmt.Errorf("make a virtual CPU: %w", err)
	}
	size, err := ioctlInt(dev, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return nil, fmt.Errorf("map a virtual CPU: %w", err)
	}
	if m.state, err = unix.Mmap(m.cpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map a virtual CPU: %w", err)
	}
	return m, m.copyCPUID(dev)
}

// copyCPUID gives the CPU the features that KVM has; without them it may not
// be put into long mode.
func (m *machine) copyCPUID(dev int) error {
	const entries, entrySize = 256, 40
	cpuid := make([]byte, 8+entries*entrySize)
	binary.NativeEndian.PutUint32(cpuid, entries)
	if err := ioctl(dev, kvmGetSupportedCPUID, uintptr(unsafe.Pointer(&cpuid[0]))); err != nil {
		return fmt.Errorf("ask for the features of a virtual CPU: %w", err)
	}
	if err := ioctl(m.cpu, kvmSetCPUID2, uintptr(unsafe.Pointer(&cpuid[0]))); err != nil {
		return fmt.Errorf("set the features of a virtual CPU: %w", err)
	}
	return nil
}

// exitAtOnce has KVM_RUN return; it is called from another thread.
func (m *machine) exitAtOnce() {
	// The byte is the second of a word of bytes that only user space writes.
	atomic.OrUint32((*uint32)(unsafe.Pointer(&m.state[0])), 1<<(8*offImmediateExit))
}

// judge looks at why the CPU stopped.
func (m *machine) judge() error {
	reason := binary.NativeEndian.Uint32(m.state[offExitReason:])
	if reason != exitIO {
		return fmt.Errorf("a guest's instructions ended with exit reason %d instead of a write to a port", reason)
	}
	port := binary.NativeEndian.Uint16(m.state[offIOPort:])
	data := binary.NativeEndian.Uint64(m.state[offIOData:])
	if m.state[offIODirection] != 1 || m.state[offIOSize] != 4 || port != resultPort || data > uint64(len(m.state)-4) {
		return fmt.Errorf("a guest's write to port %#x was reported as one to %#x", resultPort, port)
	}
	if got := binary.NativeEndian.Uint32(m.state[data:]); got != rounds {
		return fmt.Errorf("a guest counted to %d instead of %d", got, rounds)
	}
	return nil
}

func (m *machine) close() {
	if m.state != nil {
		_ = unix.Munmap(m.state)
	}
	for _, fd := range []int{m.cpu, m.vm} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if m.memory != nil {
		_ = unix.Munmap(m.memory)
	}
}

func ioctl(fd int, request, arg uintptr) error {
	_, err := ioctlInt(fd, request, arg)
	return err
}

func ioctlInt(fd int, request, arg uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
