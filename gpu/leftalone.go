// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"

	"berth/gpu/nvml"
)

// leaveAlone marks the GPUs of a list on which a container gets no slice for a
// reason that berth-gpu is not told when it lists them: it is given those GPUs
// that may be used only when something is to be made.
func (m MIG) leaveAlone(list *nvml.MIGList) error {
	claims, err := m.Roots.Claims()
	if err != nil {
		return err
	}
	for i := range list.GPUs {
		g := &list.GPUs[i]
		d := Device{BusID: g.BusID, UUID: g.UUID}
		if len(m.Policy.GPUs) > 0 && !names(m.Policy.GPUs, d) {
			g.Leave("the configuration does not list it (mig.gpus)")
		}
		switch bar, err := Barred(m.Roots, d.BusID); {
		case err != nil:
			g.Leave(err.Error())
		case bar != nil:
			g.Leave(fmt.Sprintf("it is barred (Xid %d)", bar.Xid))
		}
		if by := wholeOf(claims, d); by != "" {
			g.Leave("it is held whole by " + by)
		}
	}
	return nil
}
