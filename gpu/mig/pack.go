// SPDX-License-Identifier: Apache-2.0

package mig

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
)

// Limits of packing: fillings of one GPU that are looked at, and machines that are. Eight GPUs that
// are asked for just what they can hold take some tens.
const (
	maxFillings = 20_000
	maxPackings = 5_000
)

// errGaveUp says that the search was ended, and that there may be room all the same.
var errGaveUp = fmt.Errorf("no places were found in the time there is, though there may be room; ask for fewer devices at once: %w", errdefs.ErrResourceExhausted)

// packing looks for room for many wants at once, GPU by GPU: what counts of a GPU is only how many of
// each class of wants go into it, not how, nor which of several equal GPUs it is.
type packing struct {
	gpus    []GPU
	classes []class
	// fillings are by GPU; equal GPUs have the same.
	fillings []*fillings
	dead     map[string]bool
	tries    int
}

// class is all wants that the same kinds will do for.
type class struct {
	kinds []kind
	wants []want
}

// fillings are the ways to fill a GPU, by how many of each class are in it.
type fillings struct {
	list []filling // the fullest first
	by   map[string]bool
	most []int // of each class
}

type filling struct {
	counts []int
	places []candidate // by class, in kind
	size   int         // memory slices
}

// pack finds places for all wants. The first of them that will do are taken, whatever they leave to others.
func (s *search) pack() error {
	p := packing{gpus: slices.Clone(s.gpus), dead: map[string]bool{}}
	for _, w := range s.wants {
		i := slices.IndexFunc(p.classes, func(c class) bool { return sameKinds(c.kinds, w.kinds) })
		if i < 0 {
			i = len(p.classes)
			p.classes = append(p.classes, class{kinds: w.kinds})
		}
		p.classes[i].wants = append(p.classes[i].wants, w)
	}
	left := make([]int, len(p.classes))
	for i, c := range p.classes {
		left[i] = len(c.wants)
	}
	// What is full already has the fewest ways.
	order := make([]int, len(p.gpus))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.gpus[a].open(), p.gpus[b].open()) })
	known := map[string]*fillings{}
	for _, i := range order {
		key := fmt.Sprint(p.gpus[i].Profiles, layout(&p.gpus[i]))
		if known[key] == nil {
			f, err := p.fill(&p.gpus[i], left)
			if err != nil {
				return err
			}
			known[key] = f
		}
		p.fillings = append(p.fillings, known[key])
	}
	chosen, err := p.place(0, left)
	if err != nil {
		return err
	}
	for n, f := range chosen {
		g := &p.gpus[order[n]]
		for _, c := range f.places {
			w := p.classes[c.kind].wants[0]
			p.classes[c.kind].wants = p.classes[c.kind].wants[1:]
			s.found[w.at] = Choice{BusID: g.BusID, Profile: c.profile, Placement: c.placement}
		}
	}
	return nil
}

func sameKinds(a, b []kind) bool {
	return slices.EqualFunc(a, b, func(x, y kind) bool { return x.name == y.name })
}

// layout is what is where on a GPU, without the ids.
func layout(g *GPU) []Instance {
	out := slices.Clone(g.Instances)
	for i := range out {
		out[i].GI = 0
	}
	slices.SortFunc(out, func(a, b Instance) int { return cmp.Compare(a.Placement.Start, b.Placement.Start) })
	return out
}

// fill finds all ways to fill a GPU with at most so many of each class. Instances are put in from the
// first memory slice to the last, so none is found in two orders.
func (p *packing) fill(g *GPU, most []int) (*fillings, error) {
	out := &fillings{by: map[string]bool{}, most: make([]int, len(most))}
	seen := map[string]bool{}
	counts := make([]int, len(most))
	var places []candidate
	var from func(start, size int) bool
	from = func(start, size int) bool {
		key := string(vector(counts, start))
		if seen[key] {
			return true
		}
		if seen[key] = true; len(seen) > maxFillings {
			return false
		}
		if key := string(vector(counts, 0)); !out.by[key] {
			out.by[key] = true
			out.list = append(out.list, filling{counts: slices.Clone(counts), places: slices.Clone(places), size: size})
		}
		for i, c := range p.classes {
			if counts[i] == most[i] {
				continue
			}
			for _, q := range g.Profiles {
				if !slices.ContainsFunc(c.kinds, func(k kind) bool { return k.name == q.Name }) {
					continue
				}
				for _, at := range g.Fits(q) {
					if at.Start < start {
						continue
					}
					g.Instances = append(g.Instances, Instance{GI: -1, Profile: q.ID, Placement: at})
					places = append(places, candidate{kind: i, profile: q, placement: at})
					counts[i]++
					out.most[i] = max(out.most[i], counts[i])
					ok := from(at.Start+at.Size, size+at.Size)
					counts[i]--
					places = places[:len(places)-1]
					g.Instances = g.Instances[:len(g.Instances)-1]
					if !ok {
						return false
					}
				}
			}
		}
		return true
	}
	if !from(0, 0) {
		return nil, errGaveUp
	}
	slices.SortStableFunc(out.list, func(a, b filling) int { return cmp.Compare(b.size, a.size) })
	return out, nil
}

// vector is a key of counts.
func vector(counts []int, more int) []byte {
	key := binary.AppendUvarint(nil, uint64(more))
	for _, n := range counts {
		key = binary.AppendUvarint(key, uint64(n))
	}
	return key
}

// place finds a filling for each GPU from n on, so that all that is left has a place.
func (p *packing) place(n int, left []int) ([]filling, error) {
	if !slices.ContainsFunc(left, func(n int) bool { return n > 0 }) {
		return nil, nil
	}
	key := string(vector(left, n))
	if n == len(p.gpus) || p.dead[key] || !p.possible(n, left) {
		return nil, errNoRoom
	}
	if p.tries++; p.tries > maxPackings {
		return nil, errGaveUp
	}
	rest := make([]int, len(left))
	for _, f := range p.fillings[n].list {
		if !p.fillings[n].full(f, left) {
			continue
		}
		for i := range left {
			rest[i] = left[i] - f.counts[i]
		}
		others, err := p.place(n+1, slices.Clone(rest))
		if err == nil {
			return append([]filling{f}, others...), nil
		}
		if err != errNoRoom {
			return nil, err
		}
	}
	p.dead[key] = true
	return nil, errNoRoom
}

// possible is a bound: no class has more left than fits the GPUs from n on, were it alone.
func (p *packing) possible(n int, left []int) bool {
	for i := range left {
		room := 0
		for _, f := range p.fillings[n:] {
			room += f.most[i]
		}
		if left[i] > room {
			return false
		}
	}
	return true
}

// full says that a filling has no more of each class than is left, and that no more of what is left goes
// in: to leave room unused helps nobody.
func (all *fillings) full(f filling, left []int) bool {
	for i, n := range f.counts {
		if n > left[i] {
			return false
		}
	}
	more := slices.Clone(f.counts)
	for i := range more {
		if more[i] < left[i] {
			more[i]++
			if all.by[string(vector(more, 0))] {
				return false
			}
			more[i]--
		}
	}
	return true
}
