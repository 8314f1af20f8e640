// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"testing"
	"time"

	"berth/gpu/nvml"
)

const uuidA, uuidB = "MIG-a0000000-1111-2222-3333-444455556666", "MIG-b0000000-1111-2222-3333-444455556666"

var (
	driver = nvml.Driver{Version: "570", Load: "1"}
	place  = nvml.Place{Start: 2, Size: 1}
)

func record(s State, gi int) *Record {
	r := &Record{ID: NewID(), State: s, BootID: "b", Driver: driver, BusID: "0000:3b:00.0", Profile: 19, Place: place,
		Owner: nvml.Owner{Namespace: "ns", Container: "c", Group: "g", PID: 7, StartTime: 9}}
	if s != Intent {
		r.GI = &gi
	}
	if s == Ready || s == Releasing || s == Zombie {
		ci := 0
		r.CI, r.MIG = &ci, uuidA
	}
	return r
}

func TestJudge(t *testing.T) {
	at := func(gi int, uuids ...string) []Live {
		return []Live{{GI: 3, Profile: 14, Place: nvml.Place{Start: 4, Size: 2}, MIG: []string{uuidB}}, {GI: gi, Profile: 19, Place: place, MIG: uuids}}
	}
	later := func(r *Record) { r.Until = time.Now().Add(time.Hour) }
	for _, c := range []struct {
		name   string
		record *Record
		change func(*Record)
		live   []Live
		life   Life // of the owner
		want   nvml.Deed
	}{
		{"Ready, alive", record(Ready, 7), nil, at(7, uuidA), Served, nvml.Kept},
		{"Ready, orphaned", record(Ready, 7), nil, at(7, uuidA), Orphaned, nvml.Kept},
		{"Ready, unknown", record(Ready, 7), nil, at(7, uuidA), Unknown, nvml.Kept},
		{"Ready, dead", record(Ready, 7), nil, at(7, uuidA), Gone, nvml.Destroyed},
		{"Ready, emptied", record(Ready, 7), nil, at(7), Gone, nvml.Forgotten},
		{"Ready, beside another's", record(Ready, 7), nil, at(7, uuidB, uuidA), Gone, nvml.Destroyed},
		{"Ready, gone", record(Ready, 7), nil, at(7)[:1], Served, nvml.Forgotten},
		{"Ready, and another's is there", record(Ready, 7), nil, at(7, uuidB), Gone, nvml.Forgotten},
		{"Ready, and another id is there", record(Ready, 7), nil, at(8, uuidA), Gone, nvml.Forgotten},
		{"Ready, of another boot", record(Ready, 7), func(r *Record) { r.BootID = "a" }, at(7, uuidB), Gone, nvml.Forgotten},
		{"Ready, of another boot, it seems", record(Ready, 7), func(r *Record) { r.BootID = "a" }, at(7, uuidA), Served, nvml.Kept},
		{"Ready, of another driver, emptied", record(Ready, 7), func(r *Record) { r.Driver.Load = "0" }, at(7), Gone, nvml.Forgotten},
		{"Releasing, untouched", record(Releasing, 7), nil, at(7, uuidA), Served, nvml.Destroyed},
		{"Releasing, half", record(Releasing, 7), nil, at(7), Served, nvml.Destroyed},
		{"Releasing, done", record(Releasing, 7), nil, nil, Served, nvml.Forgotten},
		{"Releasing, done, and another's is there", record(Releasing, 7), nil, at(7, uuidB), Served, nvml.Forgotten},
		{"Releasing, another id", record(Releasing, 7), nil, at(8, uuidA), Served, nvml.Forgotten},
		{"Releasing, without a compute instance from the first", record(Releasing, 7), func(r *Record) { r.MIG = "" }, at(7), Served, nvml.Destroyed},
		{"Releasing, without one, and another's is there", record(Releasing, 7), func(r *Record) { r.MIG = "" }, at(7, uuidB), Served, nvml.Forgotten},
		{"Zombie", record(Zombie, 7), nil, at(7, uuidA), Served, nvml.Destroyed},
		{"Zombie, emptied", record(Zombie, 7), nil, at(7), Served, nvml.Destroyed},
		{"Zombie, and another's is there", record(Zombie, 7), nil, at(7, uuidB), Served, nvml.Forgotten},
		{"Idle", record(Idle, 7), later, at(7), Gone, nvml.Kept},
		{"Idle for too long", record(Idle, 7), nil, at(7), Gone, nvml.Destroyed},
		{"Idle, and another's is in it", record(Idle, 7), later, at(7, uuidB), Gone, nvml.Forgotten},
		{"Idle, gone", record(Idle, 7), later, nil, Gone, nvml.Forgotten},
		{"Idle, of another boot", record(Idle, 7), func(r *Record) { r.BootID = "a" }, at(7), Gone, nvml.Forgotten},
		{"GICreated", record(GICreated, 7), nil, at(7), Served, nvml.Destroyed},
		{"GICreated, a foreigner's CI", record(GICreated, 7), nil, at(7, uuidA), Served, nvml.Forgotten},
		{"GICreated, another id", record(GICreated, 7), nil, at(8), Served, nvml.Forgotten},
		{"CIIntent", record(CIIntent, 7), nil, at(7), Served, nvml.Destroyed},
		{"CIIntent, with its CI", record(CIIntent, 7), nil, at(7, uuidA), Served, nvml.Destroyed},
		{"CIIntent, with a foreigner's", record(CIIntent, 7), nil, at(7, uuidA, uuidB), Served, nvml.Forgotten},
		{"CIIntent, another id", record(CIIntent, 7), nil, at(8), Served, nvml.Forgotten},
		{"Intent, nothing", record(Intent, 0), nil, nil, Served, nvml.Forgotten},
		{"Intent, made", record(Intent, 0), nil, at(7), Served, nvml.Destroyed},
		{"Intent, of another boot", record(Intent, 0), func(r *Record) { r.BootID = "a" }, at(7), Served, nvml.Forgotten},
		{"Intent, a foreigner's CI", record(Intent, 0), nil, at(7, uuidB), Served, nvml.Forgotten},
		{"Intent, there before", record(Intent, 0), func(r *Record) { r.Before = []Known{{7, place}} }, at(7), Served, nvml.Forgotten},
		{"Intent, the id was elsewhere before", record(Intent, 0), func(r *Record) { r.Before = []Known{{7, nvml.Place{Start: 0, Size: 1}}} }, at(7), Served, nvml.Destroyed},
		{"Intent, another profile", record(Intent, 0), func(r *Record) { r.Profile = 20 }, at(7), Served, nvml.Forgotten},
		{"Intent, another place", record(Intent, 0), func(r *Record) { r.Place.Start = 1 }, at(7), Served, nvml.Forgotten},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				c.change(c.record)
			}
			now := Now{BootID: "b", Driver: driver, Life: func(nvml.Owner) Life { return c.life }}
			v := Judge(c.record, []*Record{c.record}, c.live, now)
			if v.Deed != c.want || v.Deed != nvml.Forgotten && v.GI != 7 || v.Why == "" {
				t.Errorf("%+v, want %s", v, c.want)
			}
		})
	}
}

// An Intent never takes what another record of this boot has at that place.
func TestJudgeIntentBesideAnother(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Record) // the other
		want   nvml.Deed
	}{
		{"the same instance", func(*Record) {}, nvml.Forgotten},
		{"that id, of another boot", func(o *Record) { o.BootID = "a" }, nvml.Destroyed},
		{"that id, at another place", func(o *Record) { o.Place.Start = 5 }, nvml.Destroyed},
		{"another id", func(o *Record) { gi := 8; o.GI = &gi }, nvml.Destroyed},
		{"no id yet", func(o *Record) { o.GI = nil }, nvml.Destroyed},
	} {
		intent, other := record(Intent, 0), record(GICreated, 7)
		c.change(other)
		now := Now{BootID: "b", Driver: driver, Life: func(nvml.Owner) Life { return Served }}
		live := []Live{{GI: 7, Profile: 19, Place: place}}
		if v := Judge(intent, []*Record{intent, other}, live, now); v.Deed != c.want {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}
