// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// join gives a container what others of its group use; it is nil if they use nothing. The container
// is a tenant by now: what is Ready under its GPU's lock stays so.
func (t *transaction) join() ([]wire.Slice, error) {
	dirs, err := ledger.GPUs(t.Run)
	if err != nil {
		return nil, err
	}
	var has []wire.Slice
	for _, busID := range dirs {
		some, err := t.ready(busID)
		if err != nil {
			return nil, about(busID, err)
		}
		if !t.mayUse(busID) && len(some) > 0 {
			return nil, &wire.Error{Code: wire.CodeHeld, Message: fmt.Sprintf(
				"the pod %s/%s shares a slice of %v, which no new container may have: it is barred, or not listed", t.Owner.Namespace, t.Owner.Pod, t.gpu(busID))}
		}
		has = append(has, some...)
	}
	if len(has) == 0 {
		return nil, nil
	}
	out := t.match(has)
	if out == nil {
		var names []string
		for _, s := range has {
			names = append(names, s.Profile)
		}
		return nil, &wire.Error{Code: wire.CodeHeld, Message: fmt.Sprintf(
			"the pod %s/%s shares %s, and this container asks for %s: containers that share ask for the same",
			t.Owner.Namespace, t.Owner.Pod, strings.Join(names, ","), asked(t.Asks))}
	}
	return out, nil
}

// ready are the owner's slices on a GPU.
func (t *transaction) ready(busID string) (out []wire.Slice, err error) {
	d, err := t.dir(busID)
	if err != nil {
		return nil, err
	}
	if records, _, err := d.Read(); err != nil || !slices.ContainsFunc(records, t.isOwners) {
		return nil, err
	}
	g := t.gpu(busID)
	l, err := t.lock(t.ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { _ = t.unlock(l, g) }() // nothing was written
	records, _, err := l.Read()
	if err != nil {
		return nil, err
	}
	occupants, failed := g.occupants()
	if failed != nil {
		return nil, failed
	}
	live := lives(occupants)
	slices.SortFunc(records, func(a, b *ledger.Record) int { return a.Began.Compare(b.Began) }) // as they were asked for
	for _, r := range records {
		if t.isOwners(r) && r.State == ledger.Ready && ledger.Judge(r, records, live, t.now).Deed == wire.Kept {
			out = append(out, g.slice(r))
		}
	}
	return out, nil
}

// slice is what a record that is Ready tells.
func (g *slicedGPU) slice(r *ledger.Record) wire.Slice {
	return wire.Slice{ID: r.ID, GPU: g.UUID, BusID: g.BusID, Index: g.Index, Minor: g.minor, UUID: r.MIG,
		GI: *r.GI, CI: *r.CI, Profile: r.Name, Place: r.Place}
}

// match puts slices into the order of the asks. It is nil unless they are just those. Asks by name
// take theirs first; of the others, the smaller ask takes the smaller slice.
func (t *transaction) match(has []wire.Slice) []wire.Slice {
	slices.SortStableFunc(has, func(a, b wire.Slice) int { return cmp.Compare(t.memory(a), t.memory(b)) })
	var wants []int // the asks, one for each slice
	for i, a := range t.Asks {
		wants = append(wants, slices.Repeat([]int{i}, a.Count)...)
	}
	order := make([]int, len(wants))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(t.Asks[wants[a]].Memory, t.Asks[wants[b]].Memory) })
	out := make([]wire.Slice, len(wants))
	for _, n := range order {
		a := t.Asks[wants[n]]
		i := slices.IndexFunc(has, func(s wire.Slice) bool { return a.Profile == s.Profile || a.Profile == "" && t.memory(s) >= a.Memory })
		if i < 0 {
			return nil
		}
		out[n] = has[i]
		has = slices.Delete(has, i, i+1)
	}
	if len(has) > 0 {
		return nil
	}
	return out
}

func (t *transaction) memory(s wire.Slice) uint64 {
	g := t.gpu(s.BusID)
	i := slices.IndexFunc(g.Profiles, func(p mig.Profile) bool { return p.Name == s.Profile })
	if i < 0 {
		return 0
	}
	return g.Profiles[i].Memory
}
