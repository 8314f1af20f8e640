// SPDX-License-Identifier: Apache-2.0

package nvml

import "time"

// MIGRequest is what `berth-gpu mig` reads from stdin.
type MIGRequest struct {
	Run    string `json:"run"`     // Roots.Run; the ledger is below gpu/mig in it
	BootID string `json:"boot_id"` // /proc/sys/kernel/random/boot_id
	Driver Driver `json:"driver"`
	// TimeoutMS bounds all waiting: for locks, and for a destroyed instance's last clients.
	TimeoutMS int64 `json:"timeout_ms"`
	// Owner is of acquire and release.
	Owner *Owner `json:"owner,omitempty"`
	// For is the container that acquires. With Share it gets what the owner has already, if others
	// use that.
	For   string `json:"for,omitempty"`
	Share bool   `json:"share,omitempty"`
	// Asks are acquire's: all that the owner is to have.
	Asks []MIGAsk `json:"asks,omitempty"`
	// GPUs are those that may be used; none means every GPU in MIG mode.
	GPUs []GPURule `json:"gpus,omitempty"`
	// ShareForeign lets slices be made beside instances that somebody else made.
	ShareForeign bool `json:"share_foreign,omitempty"`
	// KeepIdleMS has release keep what it takes back for so long, for the next owner of the same profile.
	KeepIdleMS int64 `json:"keep_idle_ms,omitempty"`
	// GiveUpIdle has sweep destroy also what is kept.
	GiveUpIdle bool `json:"give_up_idle,omitempty"`
	// DryRun has sweep say what it would do.
	DryRun bool `json:"dry_run,omitempty"`
}

// Driver is one loading of the kernel module: no MIG instance outlives it.
type Driver struct {
	Version string `json:"version"`
	Load    string `json:"load"` // differs after each loading; opaque
}

// Owner is whom slices are for: a container, or a pod whose containers share them. Container and
// Pod are names for people; what tells one owner from another, also of the same name, is Group.
type Owner struct {
	Namespace string `json:"namespace"` // containerd's
	Container string `json:"container"`
	Pod       string `json:"pod,omitempty"`
	Group     string `json:"group"`      // random; all slices that were acquired at once have the same
	PID       int    `json:"pid"`        // of the shim that acquired them
	StartTime uint64 `json:"start_time"` // field 22 of /proc/PID/stat, in clock ticks
}

// MIGAsk is for Count slices of a profile, or of any with so much memory.
type MIGAsk struct {
	Profile string `json:"profile,omitempty"` // "3g.71gb"
	Memory  uint64 `json:"memory,omitempty"`  // bytes, at least; without Profile
	Count   int    `json:"count"`
}

// GPURule is what the configuration allows of one GPU.
type GPURule struct {
	BusID     string `json:"bus_id"`
	AllowMode bool   `json:"allow_mode,omitempty"` // MIG mode may be turned on
}

// Place is a run of memory slices.
type Place struct {
	Start int `json:"start"`
	Size  int `json:"size"`
}

// Overlaps says that the two share a memory slice.
func (p Place) Overlaps(q Place) bool {
	return p.Start < q.Start+q.Size && q.Start < p.Start+p.Size
}

// MIGAcquired is the answer of `berth-gpu mig acquire`, in the order of the asks.
type MIGAcquired struct {
	Slices []Slice `json:"slices"`
}

// Slice is a GPU instance with one compute instance as large, made for an owner.
type Slice struct {
	ID      string `json:"id"` // of its record in the ledger
	GPU     string `json:"gpu"`
	BusID   string `json:"bus_id"`
	Index   int    `json:"index"`
	Minor   int    `json:"minor"` // the GPU's
	UUID    string `json:"uuid"`  // "MIG-..."
	GI      int    `json:"gi"`
	CI      int    `json:"ci"`
	Profile string `json:"profile"`
	Place   Place  `json:"place"`
}

// MIGReport is the answer of release and sweep: what became of each record that they looked at.
type MIGReport struct {
	Actions []MIGAction `json:"actions"`
}

// MIGAction is what was done about one record, or with DryRun would be.
type MIGAction struct {
	BusID string    `json:"bus_id"`
	ID    string    `json:"id"`
	State string    `json:"state"` // before: "Ready"; "torn" if it cannot be read
	Owner *Owner    `json:"owner,omitempty"`
	GI    *int      `json:"gi,omitempty"`
	Place Place     `json:"place"`
	Did   Deed      `json:"did"`
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"`
}

// Deed is what was done about a record.
type Deed string

const (
	Destroyed Deed = "destroyed" // the instance, and its record
	Forgotten Deed = "forgotten" // the record: there is no such instance
	Zombie    Deed = "zombie"    // the instance cannot be destroyed yet; a later sweep tries again
	Idled     Deed = "idle"      // it is kept for the next owner
	Kept      Deed = "kept"
	Unreached Deed = "unreached" // nothing: its GPU does not answer, or was locked
)

// MIGList is the answer of `berth-gpu mig ls`.
type MIGList struct {
	GPUs []MIGGPU `json:"gpus"`
}

// MIGGPU is a GPU that can do MIG.
type MIGGPU struct {
	Index     int           `json:"index"` // -1 if the GPU does not tell
	UUID      string        `json:"uuid"`
	BusID     string        `json:"bus_id"`
	Mode      string        `json:"mode"`                 // MIGEnabled or MIGDisabled
	LeftAlone string        `json:"left_alone,omitempty"` // why berth makes nothing on it, if so
	Slots     int           `json:"slots"`                // memory slices
	Instances []MIGInstance `json:"instances,omitempty"`
	Fits      []MIGFit      `json:"fits,omitempty"`
	Torn      []string      `json:"torn,omitempty"` // records that cannot be read
	// Error is why the GPU does not answer. Then Instances are those of the records.
	Error *Error `json:"error,omitempty"`
}

// Leave has the GPU left alone, also for this reason: no container gets what there is room for.
func (g *MIGGPU) Leave(why string) {
	if g.LeftAlone != "" {
		why = g.LeftAlone + "; " + why
	}
	g.LeftAlone = why
	for i := range g.Fits {
		g.Fits[i].Count = 0
	}
}

// MIGInstance is one GPU instance. Without Owner it is foreign.
type MIGInstance struct {
	GI      int       `json:"gi"`
	Profile string    `json:"profile"`
	Place   Place     `json:"place"`
	UUIDs   []string  `json:"uuids,omitempty"`
	Owner   *Owner    `json:"owner,omitempty"`
	State   string    `json:"state,omitempty"` // of the owner's record
	Life    string    `json:"life,omitempty"`  // what there is of the owner; empty if nothing
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"` // how long it is kept idle
}

// MIGFit is how many more of a profile there is room for: none on a GPU that is left alone.
type MIGFit struct {
	Profile string `json:"profile"`
	Count   int    `json:"count"`
}
