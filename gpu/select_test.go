// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// Machines. In the names of what was selected a number is an index and what
// follows a colon is the instance's GI.
var (
	twoGPUs = []Device{{Index: 0, UUID: uuidA, BusID: "a", Minor: 1}, {Index: 1, UUID: uuidB, BusID: "b"}}
	noUUID  = []Device{{Index: 0, UUID: uuidA, BusID: "a"}, {Index: 1, BusID: "b"}}
	// partitioned is before NVML was asked, asked after.
	partitioned = []Device{{Index: 0, UUID: uuidA, BusID: "a", MIG: []Instance{{GI: 1}, {GI: 2}}}, {Index: 1, UUID: uuidB, BusID: "b"}}
	asked       = []Device{{Index: 0, UUID: uuidA, BusID: "a", MIG: []Instance{{UUID: migA, GI: 5}, {Index: 1, UUID: "MIG-other", GI: 2}}}, {Index: 1, UUID: uuidB, BusID: "b"}}
	// excluded GPUs have no place in NVML's order.
	excluded = []Device{{Index: 0, UUID: uuidA, BusID: "a", Excluded: true}, {Index: 0, UUID: uuidB, BusID: "b"}}
)

func TestSelect(t *testing.T) {
	for _, c := range []struct {
		name    string
		devices []Device
		ask     string // as in an annotation
		want    string
	}{
		{"all", twoGPUs, "all", "0 1"},
		{"index", twoGPUs, "index:1", "1"},
		{"indexes keep their order", twoGPUs, "index:1,0", "1 0"},
		{"UUID", twoGPUs, uuidB, "1"},
		{"UUID in capitals", twoGPUs, "GPU-" + strings.ToUpper(uuidB[4:]), "1"},
		{"each once", twoGPUs, "index:0," + uuidA + ",all", "0 1"},
		{"one", twoGPUs, "1", "0"},
		{"two", twoGPUs, "2", "0 1"},
		{"a known UUID", noUUID, uuidA, "0"},
		{"an index needs no UUID", noUUID, "index:1", "1"},
		{"all need none", noUUID, "all", "0 1"},
		{"all of a partitioned GPU", partitioned, "all", "0:1 0:2 1"},
		{"all MIG devices", partitioned, "mig:all", "0:1 0:2"},
		{"a partitioned GPU by index", partitioned, "index:0", "0"},
		{"a partitioned GPU by UUID", partitioned, uuidA, "0"},
		{"a count passes over it", partitioned, "1", "1"},
		{"MIG index", asked, "0:0", "0:5"},
		{"MIG UUID", asked, migA, "0:5"},
		{"MIG each once", asked, "0:0," + migA + ",mig:all", "0:5 0:2"},
		{"a GPU and its MIG device", asked, "index:0,0:1", "0 0:2"},
		{"not the excluded", excluded, "all", "0"},
		{"index of the excluded", excluded, "index:0", "0"},
		{"count beside the excluded", excluded, "1", "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Select(request(t, c.ask), c.devices, nil)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range got {
				name := fmt.Sprint(s.Device.Index)
				if s.Instance != nil {
					name += fmt.Sprintf(":%d", s.Instance.GI)
				}
				if s.Device.Excluded {
					name += " excluded"
				}
				names = append(names, name)
			}
			if strings.Join(names, " ") != c.want {
				t.Errorf("got %q, want %s", names, c.want)
			}
		})
	}
}

func request(t *testing.T, ask string) *Request {
	t.Helper()
	r, err := ParseRequest(spec(pod, annotated(ours, ask)), plain)
	if err != nil || r == nil {
		t.Fatalf("%v, %v", r, err)
	}
	return r
}

func TestSelectRefuses(t *testing.T) {
	unknownUUID := strings.Replace(uuidA, "1", "9", 1)
	var many []Device
	for i := range 64 {
		many = append(many, Device{Index: i, UUID: fmt.Sprintf("GPU-%d", i), BusID: fmt.Sprint(i)})
	}
	for _, c := range []struct {
		name    string
		devices []Device
		ask     string
		class   error
		says    string
	}{
		{"UUID", twoGPUs, unknownUUID, errdefs.ErrNotFound,
			"annotation berth.dev/gpu: " + unknownUUID + " not found; present: " + uuidA + " (index 0), " + uuidB + " (index 1); see `berth gpu ls`: not found"},
		{"index", twoGPUs, "index:2", errdefs.ErrNotFound, "index:2 not found"},
		{"one of several", twoGPUs, "index:0,2", errdefs.ErrNotFound, "index:2 not found"},
		{"no GPU at all", nil, "all", errdefs.ErrNotFound, "all not found; present: none; see"},
		{"count", twoGPUs, "3", errdefs.ErrNotFound, "3 whole GPUs are asked for, 2 can be had"},
		{"count of partitioned", partitioned, "2", errdefs.ErrNotFound, "2 whole GPUs are asked for, 1 can be had; present: " + uuidA + " (index 0, 2 MIG devices), "},
		{"count beside excluded", excluded, "2", errdefs.ErrNotFound, "1 can be had; present: " + uuidA + " (excluded), "},
		{"excluded UUID", excluded, uuidA, errdefs.ErrFailedPrecondition, uuidA + " is excluded by the driver (NVreg_ExcludedGpus); present: "},
		{"excluded index", excluded[:1], "index:0", errdefs.ErrFailedPrecondition, "is excluded"},
		{"all are excluded", excluded[:1], "all", errdefs.ErrNotFound, "all not found; present: " + uuidA + " (excluded);"},
		{"UUID not known", noUUID, unknownUUID, ErrNeedNVML, "not found as long as UUIDs are not known"},
		{"UUID of an excluded one not known", []Device{{Excluded: true}}, unknownUUID, errdefs.ErrNotFound, "present: GPU-? (excluded)"},
		{"MIG UUID not known", partitioned, migA, ErrNeedNVML, "not known"},
		{"MIG index not known", partitioned, "0:0", ErrNeedNVML, "not known"},
		{"MIG index of a whole GPU", partitioned, "1:0", errdefs.ErrNotFound, "1:0 not found; present: MIG-? (0:0), "},
		{"MIG index", asked, "0:2", errdefs.ErrNotFound, "0:2 not found; present: " + migA + " (0:0), MIG-other (0:1); see"},
		{"MIG UUID", asked, "MIG-" + uuidA[4:], errdefs.ErrNotFound, "not found; present: " + migA},
		{"MIG without any", twoGPUs, "mig:all", errdefs.ErrNotFound, "mig:all not found; present: none;"},
		{"many are not all told", many, unknownUUID, errdefs.ErrNotFound, "GPU-7 (index 7), and 56 more; see"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Select(request(t, c.ask), c.devices, nil)
			if got != nil || !errors.Is(err, c.class) || !strings.Contains(err.Error(), strings.TrimPrefix(c.says, "annotation berth.dev/gpu: ")) {
				t.Fatalf("got %+v, %v\nwant %v with %s", got, err, c.class, c.says)
			}
			checkMessage(t, err)
		})
	}
}

// TestSelectFree has a count, and nothing else, pass over GPUs that are not free.
func TestSelectFree(t *testing.T) {
	second := func(d Device) bool { return d.Index == 1 }
	for ask, want := range map[string]int{"1": 1, "index:0": 0, "all": 0} {
		got, err := Select(request(t, ask), twoGPUs, second)
		if err != nil || got[0].Device.Index != want {
			t.Errorf("%s: got %+v, %v", ask, got, err)
		}
	}
	if got, err := Select(request(t, "2"), twoGPUs, second); !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "1 can be had") {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestSelectNoDevice has a request for the driver alone select nothing.
func TestSelectNoDevice(t *testing.T) {
	if got, err := Select(&Request{NoDevices: true}, twoGPUs, nil); got != nil || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}
