// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/encoding/protowire"

	"berth/process/cgroup"
)

// Metrics of a guest become what the kernel of a host with v1 would say, and the
// overhead is what is left when the containers' are taken off.
func TestMetrics(t *testing.T) {
	guest := metrics{
		{1, 1}: 3, {1, 2}: 1<<64 - 1, {2, 1}: 50, {2, 2}: 30, {2, 3}: 20, {2, 6}: 7,
		{4, 1}: 100, {4, 2}: 200, {4, 13}: 150, {4, 32}: 1000, {4, 33}: 4096, {4, 35}: 1<<64 - 1, {8, 5}: 2,
	}
	v2 := guest.append(nil, partsV2, numbers{}, 0)
	m, err := decodeMetrics(v2, cgroup.TypeURLV2)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMetrics(m.appendV1(nil), cgroup.TypeURLV1)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[numbers]uint64{
		{2, 1}: 3, {2, 2}: 0, {3, 1, 1}: 50000, {3, 1, 2}: 20000, {3, 1, 3}: 30000, {3, 2, 3}: 7000,
		{4, 1}: 200, {4, 2}: 100, {4, 18}: 200, {4, 30}: 150, {4, 33, 1}: 4096, {4, 33, 2}: 1000, {4, 34, 1}: 4096, {9, 3}: 2,
	} {
		if got[at] != want {
			t.Errorf("field %v is %d, want %d", at, got[at], want)
		}
	}
	if u := got.usage(cgroup.TypeURLV1); u != m.usage(cgroup.TypeURLV2) || u.cpu != 50000 || u.memory != 1000 {
		t.Errorf("one form says %+v, the other %+v", u, m.usage(cgroup.TypeURLV2))
	}
	host := metrics{{3, 1, 1}: 80000, {4, 33, 2}: 900, {2, 1}: 5}
	host.lessGuest(cgroup.TypeURLV1, []usage{got.usage(cgroup.TypeURLV1)})
	if host[numbers{3, 1, 1}] != 30000 || host[numbers{4, 33, 2}] != 0 || host[numbers{2, 1}] != 5 {
		t.Errorf("the overhead is %v", host)
	}
	host = metrics{{2, 1}: 80, {4, 32}: 1500}
	host.lessGuest(cgroup.TypeURLV2, []usage{got.usage(cgroup.TypeURLV1)})
	if host[numbers{2, 1}] != 30 || host[numbers{4, 32}] != 500 {
		t.Errorf("the overhead is %v", host)
	}
}

// What is no message is refused, and what is one is read without end.
func FuzzMetrics(f *testing.F) {
	f.Add([]byte{0x0a, 0x02, 0x08, 0x01}, true)
	f.Add([]byte{0x0a, 0xff}, false)
	f.Fuzz(func(t *testing.T, b []byte, v1 bool) {
		kind := cgroup.TypeURLV2
		if v1 {
			kind = cgroup.TypeURLV1
		}
		m, err := decodeMetrics(b, kind)
		if err != nil {
			if !errdefs.IsUnknown(err) {
				t.Error(err)
			}
			return
		}
		if _, err := decodeMetrics(m.appendV1(nil), cgroup.TypeURLV1); err != nil {
			t.Error(err)
		}
	})
}

// A guest cannot have the host keep numbers that nobody asks for.
func TestMetricsUnknownNumbers(t *testing.T) {
	var b []byte
	for number := protowire.Number(1); number < 100_000; number++ {
		b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), 1)
	}
	m, err := decodeMetrics(b, cgroup.TypeURLV2)
	if err != nil || len(m) > lastNumber {
		t.Errorf("%d numbers were kept, %v", len(m), err)
	}
}
