// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/encoding/protowire"

	"berth/process/cgroup"
)

// metrics are what there is of a metrics message: its numbers, by the sequence of
// field numbers that leads to each (github.com/containerd/cgroups/v3,
// cgroup1/stats and cgroup2/stats). Lists and texts are left out: one that
// containerd cannot read has it answer for no container of the node
// (ListContainerStats), and of those that it can it makes labels, whose number and
// uniqueness would be a guest's to choose.
type metrics map[numbers]uint64

// numbers are up to three field numbers, 0 beyond the last.
type numbers [3]protowire.Number

// The messages within messages, by the form.
var (
	partsV1 = map[numbers]bool{{2}: true, {3}: true, {3, 1}: true, {3, 2}: true, {4}: true, {4, 33}: true, {4, 34}: true, {9}: true}
	partsV2 = map[numbers]bool{{1}: true, {2}: true, {4}: true, {8}: true}
)

// lastNumber is beyond all field numbers of both forms.
const lastNumber = 40

// partsOf are those of a form, nil for none.
func partsOf(typeURL string) map[numbers]bool {
	switch typeURL {
	case cgroup.TypeURLV1:
		return partsV1
	case cgroup.TypeURLV2:
		return partsV2
	}
	return nil
}

// decodeMetrics reads a message of either form.
func decodeMetrics(b []byte, typeURL string) (metrics, error) {
	parts := partsOf(typeURL)
	if parts == nil {
		return nil, fmt.Errorf("the metrics are of type %.64q: %w", typeURL, errdefs.ErrUnknown)
	}
	m := make(metrics)
	if !m.read(b, parts, numbers{}, 0) {
		return nil, fmt.Errorf("the metrics are no message: %w", errdefs.ErrUnknown)
	}
	return m, nil
}

func (m metrics) read(b []byte, parts map[numbers]bool, at numbers, depth int) bool {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		at[depth] = number
		switch {
		case kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return false
			}
			if number <= lastNumber { // a guest may have a million others
				m[at] = v
			}
			b = b[n:]
		case kind == protowire.BytesType && parts[at]:
			part, n := protowire.ConsumeBytes(b)
			if n < 0 || !m.read(part, parts, at, depth+1) {
				return false
			}
			b = b[n:]
		default:
			n := protowire.ConsumeFieldValue(number, kind, b)
			if n < 0 {
				return false
			}
			b = b[n:]
		}
	}
	return true
}

// usage is what is the same in both forms.
type usage struct {
	cpu, user, system uint64 // ns
	memory            uint64 // bytes
	inactiveFile      uint64 // of it, what can be dropped
}

func (m metrics) usage(typeURL string) usage {
	if typeURL == cgroup.TypeURLV1 {
		return usage{
			cpu: m[numbers{3, 1, 1}], system: m[numbers{3, 1, 2}], user: m[numbers{3, 1, 3}],
			memory: m[numbers{4, 33, 2}], inactiveFile: m[numbers{4, 30}],
		}
	}
	return usage{
		cpu: m[numbers{2, 1}] * 1000, user: m[numbers{2, 2}] * 1000, system: m[numbers{2, 3}] * 1000,
		memory: m[numbers{4, 32}], inactiveFile: m[numbers{4, 13}],
	}
}

// appendV1 appends the metrics of a cgroup of v2 in the form of v1, which is what
// containerd has its users expect on a host with v1: who asks it for a task's
// metrics gets what the kernel here would give.
func (m metrics) appendV1(b []byte) []byte {
	out := metrics{
		{2, 1}: m[numbers{1, 1}], {2, 2}: unlimited(m[numbers{1, 2}]),
		{3, 1, 1}: m[numbers{2, 1}] * 1000, {3, 1, 2}: m[numbers{2, 3}] * 1000, {3, 1, 3}: m[numbers{2, 2}] * 1000,
		{3, 2, 1}: m[numbers{2, 4}], {3, 2, 2}: m[numbers{2, 5}], {3, 2, 3}: m[numbers{2, 6}] * 1000,
		{4, 16}:    m[numbers{4, 33}],
		{4, 33, 1}: m[numbers{4, 33}], {4, 33, 2}: m[numbers{4, 32}], {4, 33, 3}: m[numbers{4, 36}],
		{4, 34, 1}: max(m[numbers{4, 33}], m[numbers{4, 33}]+unlimited(m[numbers{4, 35}])), {4, 34, 2}: m[numbers{4, 32}] + m[numbers{4, 34}],
		{9, 3}: m[numbers{8, 5}],
	}
	for v1, v2 := range map[protowire.Number]protowire.Number{ // cache, rss, mapped, dirty, writeback, faults, lists
		1: 2, 2: 1, 3: 10, 4: 7, 5: 8, 6: 9, 9: 18, 10: 19, 11: 11, 12: 12, 13: 13, 14: 14, 15: 15,
	} {
		out[numbers{4, v1}], out[numbers{4, v1 + 17}] = m[numbers{4, v2}], m[numbers{4, v2}]
	}
	delete(out, numbers{4, 3})
	delete(out, numbers{4, 20})
	return out.append(b, partsV1, numbers{}, 0)
}

// unlimited is v1's number for no limit where v2 has its own.
func unlimited(n uint64) uint64 {
	if n == 1<<64-1 {
		return 0
	}
	return n
}

// append encodes the fields below at, in order of their numbers.
func (m metrics) append(b []byte, parts map[numbers]bool, at numbers, depth int) []byte {
	for number := protowire.Number(1); number <= lastNumber; number++ {
		at[depth] = number
		if parts[at] {
			if part := m.append(nil, parts, at, depth+1); part != nil {
				b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), part)
			}
			continue
		}
		if v, ok := m[at]; ok {
			b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
		}
	}
	return b
}

// lessGuest takes from what the machine uses on the host what the guest counts
// for its containers: what is left is the overhead.
func (m metrics) lessGuest(typeURL string, inside []usage) {
	var sum usage
	for _, u := range inside {
		sum.cpu += u.cpu
		sum.user += u.user
		sum.system += u.system
		sum.memory += u.memory
	}
	cpu, scale := numbers{3, 1, 1}, uint64(1)
	parts := [2]numbers{{3, 1, 2}, {3, 1, 3}}
	memory := numbers{4, 33, 2}
	if typeURL == cgroup.TypeURLV2 {
		cpu, scale = numbers{2, 1}, 1000
		parts = [2]numbers{{2, 3}, {2, 2}}
		memory = numbers{4, 32}
	}
	m[cpu] = less(m[cpu], sum.cpu/scale)
	for i, of := range [2]uint64{sum.system, sum.user} {
		m[parts[i]] = less(m[parts[i]], of/scale)
	}
	m[memory] = less(m[memory], sum.memory)
}

func less(a, b uint64) uint64 { return a - min(a, b) }
