// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// request is the kind of a message, by its number in the protocol.
type request uint32

const (
	getFeatures         request = 1
	setFeatures         request = 2
	setOwner            request = 3
	resetOwner          request = 4
	setMemTable         request = 5
	setVringNum         request = 8
	setVringAddr        request = 9
	setVringBase        request = 10
	getVringBase        request = 11
	setVringKick        request = 12
	setVringCall        request = 13
	setVringErr         request = 14
	getProtocolFeatures request = 15
	setProtocolFeatures request = 16
	getQueueNum         request = 17
	setVringEnable      request = 18
)

const (
	version    = 1      // of the protocol, in the flags
	isReply    = 1 << 2 // flag
	noFile     = 1 << 8 // in the payload of setVringKick and its like
	maxPayload = 4 << 10
	// maxFiles is one for each piece of memory.
	maxFiles = 8
)

// Features of a device.
const (
	featureIndirect = 1 << 28 // VIRTIO_RING_F_INDIRECT_DESC
	featureProtocol = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES
	featureVersion1 = 1 << 32 // VIRTIO_F_VERSION_1
	// protocolQueues is VHOST_USER_PROTOCOL_F_MQ.
	protocolQueues = 1 << 0
)

// message is one of the protocol, with the descriptors that came or go with it.
type message struct {
	request request
	payload []byte
	files   []*os.File
}

func (m *message) close() {
	for _, f := range m.files {
		_ = f.Close()
	}
	m.files = nil
}

// takeFile hands the one descriptor of a message over; nil if it has none.
func (m *message) takeFile() *os.File {
	if len(m.files) == 0 {
		return nil
	}
	f := m.files[0]
	m.files = m.files[1:]
	return f
}

// fields splits a payload into numbers.
func (m *message) fields(to ...any) error {
	rest := m.payload
	for _, f := range to {
		n := binary.Size(f)
		if len(rest) < n {
			return fmt.Errorf("message %d has %d bytes: more are needed", m.request, len(m.payload))
		}
		if _, err := binary.Decode(rest, binary.NativeEndian, f); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// receive reads a message. Its descriptors are the caller's.
func receive(conn *net.UnixConn) (_ *message, retErr error) {
	head, oob := make([]byte, 12), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := conn.ReadMsgUnix(head, oob)
	if err != nil {
		return nil, err
	}
	m := new(message)
	defer func() {
		if retErr != nil {
			m.close()
		}
	}()
	if m.files, err = descriptors(oob[:oobn]); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return nil, err
	}
	size := binary.NativeEndian.Uint32(head[8:])
	if size > maxPayload {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	m.request, m.payload = request(binary.NativeEndian.Uint32(head)), make([]byte, size)
	_, err = io.ReadFull(conn, m.payload)
	return m, err
}

func descriptors(oob []byte) (files []*os.File, _ error) {
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, c := range controls {
		fds, err := unix.ParseUnixRights(&c)
		if err != nil {
			continue // nothing that was asked for
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			// Or who reads one could not be woken by closing it.
			err := unix.SetNonblock(fd, true)
			files = append(files, os.NewFile(uintptr(fd), "vhost-user"))
			if err != nil {
				return files, err
			}
		}
	}
	return files, nil
}

// send writes a message of numbers, with copies of descriptors.
func send(conn *net.UnixConn, r request, flags uint32, files []*os.File, fields ...any) error {
	var payload []byte
	var err error
	for _, f := range fields {
		if payload, err = binary.Append(payload, binary.NativeEndian, f); err != nil {
			return err
		}
	}
	data := binary.NativeEndian.AppendUint32(nil, uint32(r))
	data = binary.NativeEndian.AppendUint32(data, version|flags)
	data = append(binary.NativeEndian.AppendUint32(data, uint32(len(payload))), payload...)
	var oob []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			raw, err := f.SyscallConn()
			if err != nil {
				return err
			}
			// The file is open until this returns: it is the caller's.
			if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
				return err
			}
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(data, oob, nil)
	return err
}
