// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"slices"
	"time"

	"berth/gpu/nvml"
)

// Now is what a record is judged by.
type Now struct {
	BootID string
	Driver nvml.Driver
	// At is when it is; zero is the present.
	At time.Time
	// Life says what there is of an owner.
	Life func(nvml.Owner) Life
}

// Live is a GPU instance that there is.
type Live struct {
	GI, Profile int
	Place       nvml.Place
	MIG         []string // UUIDs of its compute instances
}

// Verdict is what is to be done about a record.
type Verdict struct {
	Deed nvml.Deed // Kept, Destroyed or Forgotten
	GI   int       // what is to be destroyed, or is kept
	Why  string
}

// Judge decides about a record of a GPU, as the holder of its lock, who is in no transaction.
// all are the GPU's records, live its instances.
func Judge(r *Record, all []*Record, live []Live, now Now) Verdict {
	i := slices.IndexFunc(live, func(in Live) bool { return r.is(in, all, now) })
	life := Gone
	if i >= 0 && r.State == Ready {
		life = now.Life(r.Owner)
	}
	switch {
	case i < 0 && !r.Same(now):
		return Verdict{Deed: nvml.Forgotten, GI: -1, Why: "the machine was booted, or the driver loaded, since"}
	case i < 0:
		return Verdict{Deed: nvml.Forgotten, GI: -1, Why: "there is no such instance"}
	case life != Gone:
		return Verdict{Deed: nvml.Kept, GI: live[i].GI, Why: string(life)}
	case r.State == Idle && now.at().Before(r.Until):
		return Verdict{Deed: nvml.Kept, GI: live[i].GI, Why: "it is kept idle until " + r.Until.Format(time.RFC3339)}
	case r.State == Idle && now.At.IsZero():
		return Verdict{Deed: nvml.Destroyed, GI: live[i].GI, Why: "it was idle for as long as it may"}
	case r.State == Idle:
		return Verdict{Deed: nvml.Destroyed, GI: live[i].GI, Why: "it was kept idle, and is given up"}
	case r.State == Ready:
		return Verdict{Deed: nvml.Destroyed, GI: live[i].GI, Why: "its owner is gone"}
	case r.State == Zombie:
		return Verdict{Deed: nvml.Destroyed, GI: live[i].GI, Why: "it was released while in use"}
	case r.State == Releasing:
		return Verdict{Deed: nvml.Destroyed, GI: live[i].GI, Why: "its release was not finished"}
	}
	return Verdict{Deed: nvml.Destroyed, GI: live[i].GI, Why: "its creation was not finished"}
}

func (n Now) at() time.Time {
	if n.At.IsZero() {
		return time.Now()
	}
	return n.At
}

// Explained says that an instance is of one of the records.
func Explained(in Live, all []*Record, now Now) bool {
	return slices.ContainsFunc(all, func(r *Record) bool { return r.is(in, all, now) })
}

// is says that the instance is the one that was made for the record. A GPU instance has no name but
// its id, which is given anew as soon as it is free; its compute instance has a UUID, which is not.
func (r *Record) is(in Live, all []*Record, now Now) bool {
	empty, named := len(in.MIG) == 0, r.MIG != "" && slices.Contains(in.MIG, r.MIG)
	if in.Profile != r.Profile || in.Place != r.Place || r.GI != nil && *r.GI != in.GI {
		return false
	}
	switch {
	case !r.Same(now): // unless boot and driver are the same after all
		return named
	case r.GI == nil:
		return empty && !slices.Contains(r.Before, Known{in.GI, in.Place}) && !takenBy(in, r, all, now)
	case r.State == CIIntent:
		return len(in.MIG) <= 1
	case r.State == Releasing || r.State == Zombie: // the compute instance goes first
		return named || empty
	case r.State == GICreated || r.State == Idle: // whoever makes a compute instance in it has it then
		return empty
	}
	return named
}

// takenBy says that the instance is in another record than r.
func takenBy(in Live, r *Record, all []*Record, now Now) bool {
	return slices.ContainsFunc(all, func(o *Record) bool {
		return o != r && o.Same(now) && o.GI != nil && *o.GI == in.GI && o.Place == in.Place
	})
}
