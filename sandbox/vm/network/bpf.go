// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and kinds of bpf(2).
const (
	mapCreate  = 0
	mapUpdate  = 2
	progLoad   = 5
	linkCreate = 28

	kindSockmap  = 15 // BPF_MAP_TYPE_SOCKMAP
	kindSkLookup = 30 // BPF_PROG_TYPE_SK_LOOKUP
	attachLookup = 36 // BPF_SK_LOOKUP
)

// steer has what goes to the loopback addresses of a family, in the network
// namespace, arrive at a listening socket, as long as the files are open.
func steer(family int32, listener int, namespace *os.File) (files []*os.File, retErr error) {
	defer func() {
		if retErr != nil {
			for _, f := range files {
				_ = f.Close()
			}
			files, retErr = nil, fmt.Errorf("steer connections to a socket (bpf(2), sk_lookup: Linux 5.9): %w", retErr)
		}
	}()
	create := struct{ kind, key, value, most uint32 }{kindSockmap, 4, 8, 1}
	sockets, err := bpf(mapCreate, unsafe.Pointer(&create), unsafe.Sizeof(create))
	if err != nil {
		return files, err
	}
	files = append(files, sockets)
	key, value := uint32(0), uint64(listener)
	update := struct {
		file       uint32
		_          uint32
		key, value unsafe.Pointer
		flags      uint64
	}{file: uint32(sockets.Fd()), key: unsafe.Pointer(&key), value: unsafe.Pointer(&value)}
	if _, err := bpf(mapUpdate, unsafe.Pointer(&update), unsafe.Sizeof(update)); err != nil {
		return files, err
	}
	instructions, licence := lookupProgram(family, int(sockets.Fd())), []byte("Apache-2.0\x00")
	load := struct {
		kind, count           uint32
		instructions, licence unsafe.Pointer
		level, size           uint32
		log                   unsafe.Pointer
		kernel, flags         uint32
		name                  [16]byte
		device, attach        uint32
	}{
		kind: kindSkLookup, count: uint32(len(instructions) / 8), instructions: unsafe.Pointer(&instructions[0]), licence: unsafe.Pointer(&licence[0]),
		name: [16]byte{'b', 'e', 'r', 't', 'h'}, attach: attachLookup,
	}
	program, err := bpf(progLoad, unsafe.Pointer(&load), unsafe.Sizeof(load))
	if err != nil {
		return files, err
	}
	files = append(files, program)
	link := struct{ program, target, kind, flags uint32 }{uint32(program.Fd()), uint32(namespace.Fd()), attachLookup, 0}
	attached, err := bpf(linkCreate, unsafe.Pointer(&link), unsafe.Sizeof(link))
	if err != nil {
		return files, err
	}
	return append(files, attached), nil
}

// bpf makes the system call. What makes nothing gives no file.
func bpf(command uintptr, attributes unsafe.Pointer, size uintptr) (*os.File, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size)
	if errno != 0 {
		return nil, errno
	}
	if command == mapUpdate {
		return nil, nil
	}
	return os.NewFile(fd, "bpf"), nil // close-on-exec, as all that bpf makes
}
