// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/process/cgroup"
	"berth/sandbox/vm/jail"
)

// filterDevices has the processes of a cgroup open no device but those. QEMU
// sees no other anyway; virtiofsd must not open one that a guest has made
// (CVE-2020-35517). Making device nodes stays allowed, as in a container of
// runc's: overlay file systems have them.
func filterDevices(loc cgroup.Location, allowed []jail.Device) error {
	if dir, ok := loc.Dirs["devices"]; ok {
		return filterDevicesV1(dir.Path, allowed)
	}
	if dir, ok := loc.Dirs[cgroup.Unified]; ok {
		return filterDevicesV2(dir.Path, allowed)
	}
	return errors.New("this host has no cgroup hierarchy that filters devices")
}

// filterDevicesV1 writes the lists of the devices controller
// (Documentation/admin-guide/cgroup-v1/devices.rst).
func filterDevicesV1(dir string, allowed []jail.Device) error {
	if err := os.WriteFile(filepath.Join(dir, "devices.deny"), []byte("a"), 0); err != nil {
		return fmt.Errorf("deny devices: %w", err)
	}
	rules := []string{"c *:* m", "b *:* m"}
	for _, d := range allowed {
		rules = append(rules, fmt.Sprintf("c %d:%d rw", d.Major, d.Minor))
	}
	for _, rule := range rules {
		if err := os.WriteFile(filepath.Join(dir, "devices.allow"), []byte(rule), 0); err != nil {
			return fmt.Errorf("allow devices %q: %w", rule, err)
		}
	}
	return nil
}

// filterDevicesV2 attaches a program of type cgroup_device
// (Documentation/admin-guide/cgroup-v2.rst, "Device controller"). It stays as
// long as the cgroup.
func filterDevicesV2(dir string, allowed []jail.Device) error {
	program, err := loadDeviceProgram(deviceProgram(allowed))
	if err != nil {
		return fmt.Errorf("load a device filter: %w", err)
	}
	defer func() { _ = unix.Close(program) }()
	group, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("attach a device filter: %w", err)
	}
	defer func() { _ = unix.Close(group) }()
	attr := struct{ target, program, kind, flags uint32 }{uint32(group), uint32(program), unix.BPF_CGROUP_DEVICE, 0}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach a device filter: %w", err)
	}
	return nil
}

// Instructions of BPF (Documentation/bpf/standardization/instruction-set.rst).
const (
	opLoadWord = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W // dst = *(u32 *)(src + off)
	opMove     = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	opRight    = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	opAnd      = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opIfNot    = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K // jump off instructions on
	opExit     = unix.BPF_JMP | unix.BPF_EXIT
)

// deviceProgram decides on struct bpf_cgroup_dev_ctx: access << 16 | type,
// major, minor (include/uapi/linux/bpf.h).
func deviceProgram(allowed []jail.Device) (code []byte) {
	const result, context, access, kind, major, minor = 0, 1, 2, 3, 4, 5
	add := func(op uint8, dst, src uint8, off int16, imm int32) {
		code = append(code, op, src<<4|dst)
		code = binary.NativeEndian.AppendUint16(code, uint16(off))
		code = binary.NativeEndian.AppendUint32(code, uint32(imm))
	}
	answer := func(yes int32) {
		add(opMove, result, 0, 0, yes)
		add(opExit, 0, 0, 0, 0)
	}
	add(opLoadWord, access, context, 0, 0)
	add(opLoadWord, kind, context, 0, 0)
	add(opLoadWord, major, context, 4, 0)
	add(opLoadWord, minor, context, 8, 0)
	add(opRight, access, 0, 0, 16)
	add(opAnd, kind, 0, 0, 0xffff)
	add(opIfNot, access, 0, 2, unix.BPF_DEVCG_ACC_MKNOD)
	answer(1)
	for _, d := range allowed {
		add(opIfNot, kind, 0, 4, unix.BPF_DEVCG_DEV_CHAR)
		add(opIfNot, major, 0, 3, int32(d.Major))
		add(opIfNot, minor, 0, 2, int32(d.Minor))
		answer(1)
	}
	answer(0)
	return code
}

func loadDeviceProgram(code []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	attr := struct {
		kind, count   uint32
		code, license uint64
		_             [24]byte // the verifier's log, the kernel's version, flags
		_             [16]byte // name
		_             uint32
		attachTo      uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code) / 8),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
		attachTo: unix.BPF_CGROUP_DEVICE,
	}
	return bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
