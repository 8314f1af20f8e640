// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"berth/gpu/nvml"
)

// modeAge is for how long is believed what NVML said of a GPU's MIG mode, which
// an administrator may change at any time, and of which nothing tells: the
// kernel shows the directory of a GPU's instances in either mode. To ask takes
// some 20 ms. That a GPU cannot do MIG holds until the next boot.
const modeAge = time.Minute

// modes is what NVML said, for the shims of the host.
type modes struct {
	Boot   string            `json:"boot"`
	Driver string            `json:"driver"`
	At     time.Time         `json:"at"`
	Mode   map[string]string `json:"mode"` // by bus id: nvml.MIGEnabled, MIGDisabled, or empty
}

// whole sees to it that no GPU is given whole that is in MIG mode with nothing
// in it: for CUDA it is no device. The kernel shows it like any other, so NVML
// is asked about those that were selected. Where it cannot be, they are taken
// for what they seem to be.
func (p *Planner) whole(ctx context.Context, req *Request, inv *Inventory, selected []Selected) ([]Selected, error) {
	if !req.Annotated || p.NVML == nil {
		return selected, nil
	}
	var asked []string
	for _, s := range selected {
		if s.Instance == nil && len(s.Device.MIG) == 0 {
			asked = append(asked, s.Device.BusID)
		}
	}
	if len(asked) == 0 {
		return selected, nil
	}
	known, err := p.modes(ctx, asked)
	if err != nil {
		log.G(ctx).WithError(err).Warn("whether a GPU is in MIG mode cannot be told; it is given whole")
		return selected, nil
	}
	for i := range inv.Devices {
		inv.Devices[i].MIGMode = known[inv.Devices[i].BusID] == nvml.MIGEnabled
	}
	if selected, err = Select(req, inv.Devices, p.usable); err != nil {
		return nil, err
	}
	for _, s := range selected {
		if s.Instance == nil && s.Device.emptyMIG() {
			return nil, fmt.Errorf("GPU %s (index %d) is in MIG mode and has no MIG device, so that CUDA finds none on it; ask for one by %smig, or have an administrator turn the mode off with `nvidia-smi -i %d -mig 0`: %w",
				orUnknown(s.Device.UUID, s.Device.BusID), s.Device.Index, AnnotationPrefix, s.Device.Index, errdefs.ErrFailedPrecondition)
		}
	}
	return selected, nil
}

// emptyMIG says that the GPU is in MIG mode, with nothing in it.
func (d Device) emptyMIG() bool { return d.MIGMode && len(d.MIG) == 0 }

// modes are those of GPUs, as kept or as NVML says now.
func (p *Planner) modes(ctx context.Context, busIDs []string) (map[string]string, error) {
	boot, driver, err := epoch(p.Roots)
	if err != nil {
		return nil, err
	}
	file := p.Roots.run("mig-modes.json")
	var m modes
	if json.Unmarshal(readOwn(file), &m) == nil && m.Boot == boot && m.Driver == driver && m.holds(busIDs) {
		return m.Mode, nil
	}
	list, err := p.NVML(ctx)
	if err != nil {
		return nil, err
	}
	m = modes{Boot: boot, Driver: driver, At: time.Now(), Mode: map[string]string{}}
	for _, d := range list.Devices {
		if d.Error == nil {
			m.Mode[d.BusID] = d.MIGMode
		}
	}
	raw, err := json.Marshal(m)
	if err == nil {
		err = writeOwn(file, raw)
	}
	if err != nil {
		log.G(ctx).WithError(err).Warn("what NVML says of MIG modes cannot be kept") // the next one asks again
	}
	return m.Mode, nil
}

// holds says that what is kept is true yet, and answers the question.
func (m *modes) holds(busIDs []string) bool {
	fresh := time.Since(m.At) >= 0 && time.Since(m.At) < modeAge
	for _, id := range busIDs {
		if mode, ok := m.Mode[id]; !ok || mode != "" && !fresh {
			return false
		}
	}
	return true
}

// forgetModes has the next one ask again: a mode may have been changed.
func (r Roots) forgetModes() { _ = os.Remove(r.run("mig-modes.json")) }
