// SPDX-License-Identifier: Apache-2.0

package mig

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
)

// Ask is Count instances of a profile, or of the smallest with Memory.
type Ask struct {
	Profile string
	Memory  uint64 // at least, in bytes; of an Ask without Profile
	Count   int
}

// Choice is where one instance goes.
type Choice struct {
	BusID     string
	Profile   Profile
	Placement Placement
}

// Choose takes the first place that is free: a stand-in.
func Choose(gpus []GPU, asks []Ask) ([]Choice, error) {
	gpus = slices.Clone(gpus)
	var out []Choice
	for _, ask := range asks {
		for range max(1, ask.Count) {
			c, ok := first(gpus, ask)
			if !ok {
				return nil, fmt.Errorf("no room for %+v: %w", ask, errdefs.ErrResourceExhausted)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func first(gpus []GPU, ask Ask) (Choice, bool) {
	for i := range gpus {
		g := &gpus[i]
		profiles := slices.Clone(g.Profiles)
		slices.SortStableFunc(profiles, func(a, b Profile) int { return int(a.Memory>>20) - int(b.Memory>>20) })
		for _, p := range profiles {
			if p.Name != ask.Profile && (ask.Profile != "" || p.Memory < ask.Memory) {
				continue
			}
			same := 0
			for _, in := range g.Instances {
				if in.Profile == p.ID {
					same++
				}
			}
			for _, place := range p.Placements {
				if same < p.Max && !slices.ContainsFunc(g.Instances, func(in Instance) bool {
					return place.Start < in.Placement.Start+in.Placement.Size && in.Placement.Start < place.Start+place.Size
				}) {
					g.Instances = append(slices.Clone(g.Instances), Instance{GI: -1, Profile: p.ID, Placement: place})
					return Choice{BusID: g.BusID, Profile: p, Placement: place}, true
				}
			}
			if ask.Profile == "" {
				continue
			}
		}
	}
	return Choice{}, false
}
