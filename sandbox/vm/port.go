// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Devices are put into ports of a machine that runs, and stay there: the guest
// would have to let go of one, and takes 5 s for that.

// freePorts are the ports of a machine with which nothing was done yet.
func (c *Config) freePorts() chan int {
	free := make(chan int, ports)
	for i := range ports {
		if c.hasPorts() {
			free <- i
		}
	}
	return free
}

var errNoPort = errors.New("the machine has no free port for one more device")

// plug puts a device into a free port. The guest sees it in its own time.
func (m *Machine) plug(ctx context.Context, device map[string]any) error {
	select {
	case port := <-m.ports:
		device["bus"], device["id"] = fmt.Sprintf("port%d", port), fmt.Sprintf("plugged%d", port)
		return m.qmp.Execute(ctx, "device_add", device, nil)
	default:
		return errNoPort
	}
}

// plugAll puts a clone's share and NICs into ports.
func (m *Machine) plugAll(ctx context.Context, c Config) error {
	if c.Share != "" {
		if err := m.plug(ctx, map[string]any{"driver": "vhost-user-fs-pci", "chardev": "share", "tag": ShareTag}); err != nil {
			return err
		}
	}
	for i, n := range c.NICs {
		if err := m.plug(ctx, card(n, fmt.Sprintf("nic%d", i))); err != nil {
			return err
		}
	}
	return nil
}

func card(n NIC, netdev string) map[string]any {
	return map[string]any{"driver": "virtio-net-pci", "netdev": netdev, "mac": mac(n), "romfile": ""}
}

// FreePorts is how many NICs can be added.
func (m *Machine) FreePorts() int { return len(m.ports) }

// AddNIC gives a machine that runs one more NIC, if it has a free port. The guest
// sees it in its own time. One that could not be added may be there all the same.
func (m *Machine) AddNIC(ctx context.Context, n NIC) error {
	name := "late" + strings.ReplaceAll(mac(n), ":", "") // letters and digits, as QEMU's ids are
	err := m.qmp.ExecuteFile(ctx, "getfd", map[string]any{"fdname": name}, nil, n.Tap)
	if err == nil {
		err = m.qmp.Execute(ctx, "netdev_add", map[string]any{"type": "tap", "id": name, "fd": name, "vhost": false}, nil)
	}
	if err == nil {
		err = m.plug(ctx, card(n, name))
	}
	if err != nil {
		return fmt.Errorf("add the network interface %s to machine %s: %w", mac(n), m.id, err)
	}
	return nil
}
