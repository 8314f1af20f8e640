// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// plugTimeout is how long a device may take to appear that the host has put in:
// it is some 0.2 s, for which the bus is to be left alone after it got power.
const plugTimeout = 10 * time.Second

// Plug is asked by the host.
func (s *server) Plug(_ context.Context, r *agentapi.PlugRequest) (*agentapi.Empty, error) {
	if !s.cfg.Network {
		return nil, fmt.Errorf("this agent's devices are not a guest's: %w", errdefs.ErrFailedPrecondition)
	}
	return &agentapi.Empty{}, Plug(r)
}

// Plug waits for devices that are on their way, and mounts the share.
func Plug(r *agentapi.PlugRequest) error {
	events, err := watchDevices() // before the first look
	if err != nil {
		return err
	}
	defer func() { _ = events.Close() }()
	if err := events.SetReadDeadline(time.Now().Add(plugTimeout)); err != nil {
		return err
	}
	mounted := !r.Share
	buf := make([]byte, 64<<10)
	for {
		if !mounted {
			if mounted, err = MountShare(); err != nil {
				return err
			}
		}
		missing, err := missingNIC("/sys/class/net", r.Macs)
		if err != nil {
			return err
		}
		if mounted && missing == nil {
			return nil
		}
		// A message that did not fit the socket's buffer (ENOBUFS) is news as well.
		if _, err := events.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("wait for devices (share: %v, NIC: %v): %w", mounted, missing, err)
		}
	}
}

// missingNIC is the first address that no interface has, or nil.
func missingNIC(class string, macs [][]byte) (net.HardwareAddr, error) {
	files, err := filepath.Glob(filepath.Join(class, "*/address"))
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool)
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil { // gone again
			there[strings.TrimSpace(string(data))] = true
		}
	}
	for _, mac := range macs {
		if a := net.HardwareAddr(mac); !there[a.String()] {
			return a, nil
		}
	}
	return nil, nil
}
