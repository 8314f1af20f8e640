// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func goodRequest() MIGRequest {
	return MIGRequest{Run: "/run/berth", BootID: "e95d80e1-0000", Driver: Driver{"570.133.20", "4711"}, TimeoutMS: 1000,
		Owner: &Owner{Namespace: "k8s.io", Container: "abc_1.2-3", Group: "0123", PID: 7, StartTime: 9},
		Asks:  []MIGAsk{{Profile: "1g.18gb+me", Count: 2}, {Memory: 1 << 30, Count: 1}},
		GPUs:  []GPURule{{BusID: "0000:3b:00.0", AllowMode: true}}}
}

func TestDecodeMIGRequest(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*MIGRequest)
		bad    string // in the error; "" if it is accepted
	}{
		"as it is":           {func(*MIGRequest) {}, ""},
		"no owner":           {func(q *MIGRequest) { q.Owner = nil }, ""},
		"a relative run":     {func(q *MIGRequest) { q.Run = "run" }, "absolute"},
		"no boot":            {func(q *MIGRequest) { q.BootID = "" }, "boot"},
		"no time":            {func(q *MIGRequest) { q.TimeoutMS = 0 }, "timeout"},
		"too much time":      {func(q *MIGRequest) { q.TimeoutMS = maxTimeout + 1 }, "timeout"},
		"profile and memory": {func(q *MIGRequest) { q.Asks[0].Memory = 1 }, "ask"},
		"neither":            {func(q *MIGRequest) { q.Asks[0].Profile = "" }, "ask"},
		"none of it":         {func(q *MIGRequest) { q.Asks[0].Count = 0 }, "ask"},
		"too many":           {func(q *MIGRequest) { q.Asks[0].Count = maxAsks }, "slices"},
		"a profile's name":   {func(q *MIGRequest) { q.Asks[0].Profile = "1g\n" }, "ask"},
		"a path as GPU":      {func(q *MIGRequest) { q.GPUs[0].BusID = "../../etc" }, "bus id"},
		"an owner's path":    {func(q *MIGRequest) { q.Owner.Container = "../x" }, "owner"},
		"an owner nobody":    {func(q *MIGRequest) { q.Owner.PID = 0 }, "owner"},
		"an owner ageless":   {func(q *MIGRequest) { q.Owner.StartTime = 0 }, "owner"},
	} {
		t.Run(name, func(t *testing.T) {
			q := goodRequest()
			c.change(&q)
			data, err := json.Marshal(q)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeMIGRequest(bytes.NewReader(data))
			if c.bad == "" && (err != nil || !reflect.DeepEqual(*got, q)) {
				t.Errorf("%+v, %v; want %+v", got, err, q)
			}
			if c.bad != "" && (!errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), c.bad)) {
				t.Errorf("the error is %v, want one about %s", err, c.bad)
			}
		})
	}
	for _, text := range []string{"", "{}", `{"run":"/r"}{}`, `{"later":1}`, strings.Repeat(" ", maxBytes+1)} {
		if q, err := DecodeMIGRequest(strings.NewReader(text)); err == nil {
			t.Errorf("%.40q was read as %+v", text, q)
		}
	}
}

func goodSlice() Slice {
	return Slice{ID: "0123", GPU: testUUID, BusID: "0000:3b:00.0", Minor: 3, UUID: testMIG, GI: 7, Profile: "1g.18gb", Place: Place{3, 1}}
}

func TestDecodeMIGAcquired(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Slice)
		want   int
		ok     bool
	}{
		"as it is":     {func(*Slice) {}, 1, true},
		"too few":      {func(*Slice) {}, 2, false},
		"a GPU's UUID": {func(s *Slice) { s.UUID = testUUID }, 1, false},
		"a path":       {func(s *Slice) { s.BusID = "0000:../.." }, 1, false},
		"no place":     {func(s *Slice) { s.Place = Place{} }, 1, false},
		"no instance":  {func(s *Slice) { s.GI = -1 }, 1, false},
		"no minor":     {func(s *Slice) { s.Minor = -1 }, 1, false},
	} {
		s := goodSlice()
		c.change(&s)
		data, err := json.Marshal(MIGAcquired{Slices: []Slice{s}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeMIGAcquired(data, c.want); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		p, q Place
		want bool
	}{
		{Place{0, 4}, Place{4, 4}, false}, {Place{0, 4}, Place{3, 1}, true}, {Place{2, 2}, Place{0, 8}, true}, {Place{6, 1}, Place{5, 1}, false},
	} {
		if c.p.Overlaps(c.q) != c.want || c.q.Overlaps(c.p) != c.want {
			t.Errorf("%v and %v: %v", c.p, c.q, !c.want)
		}
	}
}

// harmless says that ids have no more than their grammar.
func harmless(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if strings.Trim(id, "GPUMI-:.0123456789abcdef") != "" || strings.Contains(id, "..") {
			t.Errorf("id %q", id)
		}
	}
}

func FuzzDecodeMIGRequest(f *testing.F) {
	seed, err := json.Marshal(goodRequest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := DecodeMIGRequest(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, g := range q.GPUs {
			harmless(t, g.BusID)
		}
		again, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeMIGRequest(bytes.NewReader(again)); err != nil {
			t.Errorf("%s is not read again: %v", again, err)
		}
	})
}

// What is read of an answer, of whichever kind, has harmless ids.
func FuzzDecodeMIGAnswer(f *testing.F) {
	gi := 3
	for _, v := range []any{
		MIGAcquired{Slices: []Slice{goodSlice()}},
		MIGReport{Actions: []MIGAction{{BusID: "0000:3b:00.0", ID: "x", State: "Ready", GI: &gi, Place: Place{0, 4}, Did: Destroyed, Why: "w"}}},
		MIGList{GPUs: []MIGGPU{{UUID: testUUID, BusID: "0000:3b:00.0", Mode: MIGEnabled, Slots: 8,
			Instances: []MIGInstance{{GI: 1, Profile: "3g.71gb", Place: Place{4, 4}, UUIDs: []string{testMIG}}}}}},
	} {
		seed, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := DecodeMIGAcquired(data, 1); err == nil {
			harmless(t, a.Slices[0].GPU, a.Slices[0].BusID, a.Slices[0].UUID)
		}
		if r, err := DecodeMIGReport(data); err == nil {
			for _, a := range r.Actions {
				harmless(t, a.BusID)
			}
		}
		if l, err := DecodeMIGList(data); err == nil {
			for _, g := range l.GPUs {
				harmless(t, g.UUID, g.BusID)
				for _, in := range g.Instances {
					harmless(t, in.UUIDs...)
				}
			}
		}
	})
}
