// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// usable is which GPUs a count may choose.
func (p *Planner) usable(d Device) bool { return p.notBarred(d) == nil }

func (p *Planner) notBarred(d Device) error {
	bar, err := Barred(p.Roots, d.BusID)
	if err != nil {
		return err
	}
	if bar != nil {
		return bar.Err()
	}
	return nil
}

// fabric checks that the fabric manager runs where GPUs are joined by
// NVSwitches: without it CUDA fails with "system not yet initialized" (802)
// once the container runs. It is known by its socket, or by its pid file where
// it was told to listen on the network.
func (p *Planner) fabric(inv *Inventory, req *Request) error {
	if !inv.NVSwitch || p.IgnoreFabric || req.NoDevices || req.Capabilities&Compute == 0 {
		return nil
	}
	for _, s := range Sockets(p.Roots) {
		if s.Name == "fabricmanager" {
			return nil
		}
	}
	text, err := os.ReadFile(p.Roots.driver("run/nvidia-fabricmanager/nv-fabricmanager.pid"))
	if pid, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil {
		if _, err := os.Stat(p.Roots.proc(strconv.Itoa(pid))); err == nil {
			return nil
		}
	}
	return fmt.Errorf("this machine has NVSwitches, and its fabric manager does not run: start it with "+
		"`systemctl start nvidia-fabricmanager`, of version %s, or set ignore_fabric in the configuration: %w",
		inv.DriverVersion, errdefs.ErrFailedPrecondition)
}
