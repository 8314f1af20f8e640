// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// Renew is asked by the host.
func (s *server) Renew(_ context.Context, r *agentapi.RenewRequest) (*agentapi.Empty, error) {
	if s.cfg.Renew == nil {
		return nil, fmt.Errorf("this agent is not a guest's: %w", errdefs.ErrFailedPrecondition)
	}
	return &agentapi.Empty{}, s.cfg.Renew(r)
}

// Renew gives this guest what it must not have in common with any other. The
// agent's own memory is one of these things: see Again.
func Renew(r *agentapi.RenewRequest) error {
	// Who has neither would be a copy, and not know it.
	if len(r.Entropy) < minEntropy || len(r.MachineId) != 16 {
		return fmt.Errorf("%d bytes of entropy and a machine id of %d: %d and 16 are needed: %w",
			len(r.Entropy), len(r.MachineId), minEntropy, errdefs.ErrInvalidArgument)
	}
	if err := SetClock(r.Time); err != nil {
		return err
	}
	if err := addEntropy(r.Entropy); err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := os.WriteFile("/etc/machine-id", []byte(hex.EncodeToString(r.MachineId)+"\n"), 0o444); err != nil {
		return fmt.Errorf("set the machine id: %w", err)
	}
	return nil
}

const (
	// minEntropy is what the kernel's generator holds, in bytes.
	minEntropy = 32
	// The requests RNDADDENTROPY and RNDRESEEDCRNG of random(4).
	addEntropyRequest = 0x40085203
	reseedRequest     = 0x5207
)

// addEntropy mixes bytes into the kernel's pool and has every generator in it,
// which are one for each CPU, begin anew from there (drivers/char/random.c).
func addEntropy(seed []byte) error {
	fd, err := unix.Open("/dev/urandom", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	// struct rand_pool_info: bits, bytes, the bytes.
	info := binary.NativeEndian.AppendUint32(nil, uint32(8*len(seed)))
	info = append(binary.NativeEndian.AppendUint32(info, uint32(len(seed))), seed...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), addEntropyRequest, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return errno
	}
	return unix.IoctlSetInt(fd, reseedRequest, 0)
}

// portFlag begins the argument by which an agent that begins anew has the port.
const portFlag = "-port="

// Again has the agent's program begin anew, with the port: what the language's
// runtime drew at random, and where the kernel put the program, was the same in
// every clone. It returns only if it cannot.
func Again(port *os.File) error {
	raw, err := port.SyscallConn()
	if err != nil {
		return err
	}
	if ctrlErr := raw.Control(func(fd uintptr) {
		if _, err = unix.FcntlInt(fd, unix.F_SETFD, 0); err == nil { // it is to be inherited
			err = syscall.Exec("/proc/self/exe", []string{"/init", portFlag + strconv.Itoa(int(fd))}, os.Environ())
		}
	}); ctrlErr != nil {
		err = ctrlErr
	}
	return fmt.Errorf("begin anew: %w", err)
}

// Inherited is the port of an agent that has begun anew, or nil in one that has
// just been started.
func Inherited(args []string) (*os.File, error) {
	if len(args) != 2 || len(args[1]) <= len(portFlag) || args[1][:len(portFlag)] != portFlag {
		return nil, nil
	}
	fd, err := strconv.Atoi(args[1][len(portFlag):])
	if err != nil {
		return nil, fmt.Errorf("take the port over: %w", err)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), PortName), nil
}
