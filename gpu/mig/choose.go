// SPDX-License-Identifier: Apache-2.0

package mig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Ask is Count instances of a profile, or of the smallest that has Memory and
// for which there is room.
type Ask struct {
	Profile string
	Memory  uint64 // at least, in bytes; of an Ask without Profile
	Count   int
}

// String is the ask as ParseAsk reads it.
func (a Ask) String() string {
	text := a.Profile
	if text == "" {
		text = fmt.Sprintf(">=%dMiB", (a.Memory+1<<20-1)>>20)
	}
	if a.Count > 1 {
		text += fmt.Sprintf(":%d", a.Count)
	}
	return text
}

// Choice is where one instance goes.
type Choice struct {
	BusID     string
	Profile   Profile
	Placement Placement
}

// maxTries bounds the search for the best places of several instances. The few that a container asks
// for take some tens of steps. Beyond it any places will do; see pack.
const maxTries = 2_000

// errNoRoom says that there are no places, however they are looked for.
var errNoRoom = fmt.Errorf("there is none: %w", errdefs.ErrResourceExhausted)

// Choose finds a place for each instance that is asked for, in the order of the
// asks, or for none. Of the places that there are it takes the one that leaves
// most to others; see [GPU.cost]. Of many that hardly fit it takes any.
//
// The error is errdefs.ErrNotFound if no GPU has the profile, and
// errdefs.ErrResourceExhausted if there is no room, or the search was given up:
// then it says so.
func Choose(gpus []GPU, asks []Ask) ([]Choice, error) {
	s := search{gpus: make([]GPU, len(gpus)), dead: map[string]bool{}}
	for i, g := range gpus {
		g.Instances = slices.Clone(g.Instances) // it is pushed to
		s.gpus[i] = g
	}
	for i, a := range asks {
		kinds := s.kinds(a)
		if len(kinds) == 0 {
			return nil, fmt.Errorf("no GPU has a MIG profile for %s; there are %s: %w", a, s.names(), errdefs.ErrNotFound)
		}
		for range max(1, a.Count) {
			s.wants = append(s.wants, want{ask: i, at: len(s.wants), kinds: kinds})
		}
	}
	// The large first: they have the fewest places. Equals stay together.
	slices.SortStableFunc(s.wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(b.kinds[0].size(), a.kinds[0].size()), cmp.Compare(a.ask, b.ask))
	})
	s.found = make([]Choice, len(s.wants))
	if s.place(0) {
		return s.found, nil
	}
	err := errNoRoom
	if s.tries > maxTries {
		err = s.pack()
	}
	if err != nil {
		texts := make([]string, len(asks))
		for i, a := range asks {
			texts[i] = a.String()
		}
		return nil, fmt.Errorf("room for %s: %w", strings.Join(texts, ","), err)
	}
	return s.found, nil
}

// want is one instance that is looked for.
type want struct {
	ask, at int
	kinds   []kind // the smallest first
}

// kind is a profile by its name, which may have another id on another GPU.
type kind struct {
	name string
	of   Profile // of some GPU
}

func (k kind) size() int { return k.of.size() }

// size is how many memory slices an instance takes.
func (p Profile) size() int {
	if len(p.Placements) == 0 {
		return 0
	}
	return p.Placements[0].Size
}

// plain is false for variants with something more or less (media engines,
// graphics), which nobody gets who does not name them.
func (p Profile) plain() bool { return !strings.ContainsAny(p.Name, "+-") }

type search struct {
	gpus  []GPU
	wants []want
	found []Choice
	tries int
	dead  map[string]bool // how the machine may look, and nothing come of it
}

// kinds are the profiles that satisfy an ask.
func (s *search) kinds(a Ask) (out []kind) {
	for _, g := range s.gpus {
		for _, p := range g.Profiles {
			fits := p.Name == a.Profile || a.Profile == "" && p.Memory >= a.Memory && p.plain()
			if fits && !slices.ContainsFunc(out, func(k kind) bool { return k.name == p.Name }) {
				out = append(out, kind{p.Name, p})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.size(), b.size()), cmp.Compare(a.of.Memory, b.of.Memory), cmp.Compare(a.of.Slices, b.of.Slices))
	})
	return out
}

// names are all profiles.
func (s *search) names() string {
	var out []string
	for _, g := range s.gpus {
		for _, p := range g.Profiles {
			if !slices.Contains(out, p.Name) {
				out = append(out, p.Name)
			}
		}
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, ", ")
}

// candidate is a place for one instance.
type candidate struct {
	kind, gpu, cost int
	profile         Profile
	placement       Placement
}

// place finds places for the wants from n on.
func (s *search) place(n int) bool {
	if n == len(s.wants) {
		return true
	}
	key := s.key(n)
	if s.dead[key] {
		return false
	}
	for _, c := range s.candidates(s.wants[n]) {
		if s.tries++; s.tries > maxTries {
			return false
		}
		g := &s.gpus[c.gpu]
		g.Instances = append(g.Instances, Instance{GI: -1, Profile: c.profile.ID, Placement: c.placement})
		s.found[s.wants[n].at] = Choice{BusID: g.BusID, Profile: c.profile, Placement: c.placement}
		if s.place(n + 1) {
			return true
		}
		g.Instances = g.Instances[:len(g.Instances)-1]
	}
	s.dead[key] = true
	return false
}

// key is how the machine looks when the wants from n on are to be placed,
// whichever of the ones before is where.
func (s *search) key(n int) string {
	key := []byte{byte(n)}
	for _, g := range s.gpus {
		at := len(key)
		for _, in := range g.Instances {
			key = append(key, byte(in.Profile), byte(in.Placement.Start))
		}
		sortPairs(key[at:])
		key = append(key, 255)
	}
	return string(key)
}

// sortPairs sorts by the second of each two bytes, the start: no two instances
// have the same.
func sortPairs(b []byte) {
	for i := 2; i < len(b); i += 2 {
		for j := i; j > 0 && b[j+1] < b[j-1]; j -= 2 {
			b[j], b[j-2] = b[j-2], b[j]
			b[j+1], b[j-1] = b[j-1], b[j+1]
		}
	}
}

// candidates are the places for one instance, the best first: of the smallest
// profile, then where it costs least; of those that cost the same, on the first
// GPU, in the order in which NVML names them.
func (s *search) candidates(w want) (out []candidate) {
	for k, kind := range w.kinds {
		for i := range s.gpus {
			g := &s.gpus[i]
			for _, p := range g.Profiles {
				if p.Name != kind.name {
					continue
				}
				for _, at := range g.Fits(p) {
					out = append(out, candidate{kind: k, gpu: i, cost: g.cost(p, at), profile: p, placement: at})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.cost, b.cost)) })
	return out
}
