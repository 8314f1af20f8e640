// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"berth/gpu/mps"
)

// MPSStatus is one MPS daemon of the host.
type MPSStatus struct {
	Owner   string    `json:"owner"`
	State   mps.State `json:"state"`
	PID     int       `json:"pid,omitempty"`
	Alive   bool      `json:"alive"`
	Ask     string    `json:"ask"`
	Devices []string  `json:"devices"`
	// Members are the containers that use it, as NAMESPACE/ID.
	Members []string `json:"members"`
}

func (r Roots) mpsStatus() (out []MPSStatus) {
	for _, rec := range (&mps.Host{Dir: r.run("mps")}).Records() {
		s := MPSStatus{
			Owner: rec.Owner.String(), State: rec.State, PID: rec.Daemon.PID, Alive: rec.Alive(),
			Ask: rec.Ask.String(), Devices: rec.Devices, Members: []string{},
		}
		for _, m := range rec.Members {
			s.Members = append(s.Members, rec.Owner.Namespace+"/"+m.ID)
		}
		out = append(out, s)
	}
	return out
}
