// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// XidPolicy names Xids, by class or by number, that have a consequence. What
// it does not name is reported only.
type XidPolicy struct{ Kill, Bar, Ignore []string }

// Action is what is done about an Xid.
type Action struct{ Report, Kill, Bar bool }

// String is for people, and for the event.
func (a Action) String() string {
	switch {
	case a.Kill && a.Bar:
		return "kill,bar"
	case a.Kill:
		return "kill"
	case a.Bar:
		return "bar"
	case a.Report:
		return "report"
	}
	return "ignore"
}

// Actions says what p does about x. A number counts before a class: one that
// is ignored is, and one that has a consequence has it though its class is
// ignored. A number is never in both, see Validate.
func (p XidPolicy) Actions(x Xid) Action {
	number, class := strconv.Itoa(x.Number), x.Class().String()
	if slices.Contains(p.Ignore, number) {
		return Action{}
	}
	a := Action{Kill: slices.Contains(p.Kill, number), Bar: slices.Contains(p.Bar, number)}
	if slices.Contains(p.Ignore, class) {
		a.Report = a.Kill || a.Bar
		return a
	}
	a.Report = true
	a.Kill = a.Kill || slices.Contains(p.Kill, class)
	a.Bar = a.Bar || slices.Contains(p.Bar, class)
	return a
}

// Validate refuses what names nothing, and what contradicts itself.
func (p XidPolicy) Validate() error {
	for _, name := range slices.Concat(p.Kill, p.Bar, p.Ignore) {
		if n, err := strconv.ParseUint(name, 10, 31); err == nil && n > 0 && strconv.FormatUint(n, 10) == name {
			continue
		}
		if !slices.Contains(classNames[:], name) {
			return fmt.Errorf("xid policy: class %.64q is not known; known are %s, or the number of an Xid: %w",
				name, strings.Join(classNames[:], ", "), errdefs.ErrInvalidArgument)
		}
	}
	for _, name := range p.Ignore {
		if slices.Contains(p.Kill, name) || slices.Contains(p.Bar, name) {
			return fmt.Errorf("xid policy: %q is ignored and has a consequence; name it once: %w", name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// Holder is a container that holds GPUs.
type Holder struct {
	ID string
	// BusIDs are the GPUs that it has whole, Instances its parts of others.
	BusIDs    []string
	Instances []HeldInstance
	// HasPid tells whether a process, by its number in the first PID
	// namespace, is the container's.
	HasPid func(pid int) bool
}

// HeldInstance is a MIG instance, and CI -1 all of its GPU instance.
type HeldInstance struct {
	BusID  string
	GI, CI int
}

// How an Xid was attributed.
const (
	ByPid      = "pid"
	ByInstance = "mig"
	ByGPU      = "gpu"
)

// Attribute says which containers an Xid has hit: the one whose process the
// driver blames; else the holders of the MIG instance that it blames; else all
// that hold the GPU or, where no instance was blamed, a part of it. By GPU
// alone nobody is known to be the cause.
func Attribute(x Xid, holders []Holder) (ids []string, how string) {
	for _, h := range holders {
		if x.Pid > 0 && h.HasPid != nil && h.HasPid(x.Pid) {
			return []string{h.ID}, ByPid
		}
	}
	pick := func(hit func(Holder) bool) (ids []string) {
		for _, h := range holders {
			if hit(h) {
				ids = append(ids, h.ID)
			}
		}
		return ids
	}
	held := func(h Holder, same func(HeldInstance) bool) bool {
		return slices.ContainsFunc(h.Instances, func(i HeldInstance) bool { return i.BusID == x.BusID && same(i) })
	}
	if x.GI >= 0 {
		ids = pick(func(h Holder) bool {
			return held(h, func(i HeldInstance) bool {
				return i.GI == x.GI && (x.CI < 0 || i.CI < 0 || i.CI == x.CI)
			})
		})
		if ids != nil {
			return ids, ByInstance
		}
	}
	ids = pick(func(h Holder) bool {
		return slices.Contains(h.BusIDs, x.BusID) || x.GI < 0 && held(h, func(HeldInstance) bool { return true })
	})
	if ids == nil {
		return nil, ""
	}
	return ids, ByGPU
}
