// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// ErrNeedNVML says that the answer hangs on what only NVML knows. Who gets it
// asks berth-gpu, once, and tries again with what that said.
var ErrNeedNVML = fmt.Errorf("only NVML knows: %w", errdefs.ErrUnavailable)

// Selected is a device to be given to a container: a whole GPU, or one MIG
// device of it.
type Selected struct {
	Device   Device
	Instance *Instance
}

// Select chooses the devices that req asks for, each once. A partitioned GPU
// that is asked for by its index or UUID is chosen whole, as NVIDIA's tools
// choose it, though CUDA can use it only through its MIG devices; "all" chooses
// these instead, and a count passes over it, as both do over one that is known
// to be in MIG mode with nothing in it, or to be kept for it. Where free is given, a count also
// passes over GPUs that are not. Excluded GPUs are never chosen, nor are MIG
// devices that were made for a container.
//
// The error is errdefs.ErrNotFound, errdefs.ErrFailedPrecondition or
// ErrNeedNVML, which may be due to a UUID that a first look did not show.
func Select(req *Request, devices []Device, free func(Device) bool) ([]Selected, error) {
	var chosen []Selected
	for _, s := range req.Devices {
		found, err := s.find(devices, free)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if !slices.ContainsFunc(chosen, f.same) {
				chosen = append(chosen, f)
			}
		}
	}
	return chosen, nil
}

func (s Selected) same(o Selected) bool {
	if s.Device.BusID != o.Device.BusID || (s.Instance == nil) != (o.Instance == nil) {
		return false
	}
	return s.Instance == nil || s.Instance.GI == o.Instance.GI && s.Instance.CI == o.Instance.CI
}

func (s Selector) find(devices []Device, free func(Device) bool) ([]Selected, error) {
	var found []Selected
	excluded := false
	hidden := false // a UUID that is not known could be the one
	whose := ""     // what would be found was made for another container
	for _, d := range devices {
		takes := s.takesGPU(d)
		if d.Excluded {
			excluded = excluded || takes && (s.Kind == SelectIndex || s.Kind == SelectUUID)
			continue
		}
		if takes && (s.Kind != SelectCount || len(found) < s.N && (free == nil || free(d))) {
			found = append(found, Selected{Device: d})
		}
		hidden = hidden || s.Kind == SelectUUID && d.UUID == ""
		for i, m := range d.MIG {
			if theirs := d.record.of(m.GI); s.takesMIG(d, m) && theirs != "" {
				whose = theirs
			} else if s.takesMIG(d, m) {
				found = append(found, Selected{Device: d, Instance: &d.MIG[i]})
			}
			hidden = hidden || m.UUID == "" && (s.Kind == SelectMIGUUID || s.Kind == SelectMIGIndex && s.N == d.Index)
		}
	}
	switch {
	case len(found) > 0 && (s.Kind != SelectCount || len(found) == s.N):
		return found, nil
	case excluded:
		return nil, fmt.Errorf("%s is excluded by the driver (NVreg_ExcludedGpus); present: %s: %w", s, s.present(devices), errdefs.ErrFailedPrecondition)
	case whose != "" && (s.Kind == SelectMIGUUID || s.Kind == SelectMIGIndex):
		return nil, theirsErr("MIG device "+s.String(), whose)
	case whose != "":
		return nil, theirsErr(s.String()+": each MIG device that there is", whose)
	case hidden:
		return nil, fmt.Errorf("%s is not found as long as UUIDs are not known: %w", s, ErrNeedNVML)
	case s.Kind == SelectCount:
		return nil, fmt.Errorf("%d whole GPUs are asked for, %d can be had; present: %s: %w", s.N, len(found), s.present(devices), errdefs.ErrNotFound)
	}
	return nil, fmt.Errorf("%s not found; present: %s: %w", s, s.present(devices), errdefs.ErrNotFound)
}

func (s Selector) takesGPU(d Device) bool {
	switch s.Kind {
	case SelectIndex:
		return s.N == d.Index
	case SelectUUID:
		return s.is(d.UUID)
	case SelectAll, SelectCount:
		return len(d.MIG) == 0 && !d.MIGMode && d.Kept == ""
	}
	return false
}

// is compares without regard to the case of the digits.
func (s Selector) is(uuid string) bool { return strings.EqualFold(s.UUID, uuid) }

// takesMIG says whether a MIG device of a GPU is asked for. Its index counts
// only where NVML has said it, and with it the UUID.
func (s Selector) takesMIG(d Device, m Instance) bool {
	switch s.Kind {
	case SelectAll, SelectMIGAll:
		return true
	case SelectMIGUUID:
		return s.is(m.UUID)
	case SelectMIGIndex:
		return s.N == d.Index && s.MIG == m.Index && m.UUID != ""
	}
	return false
}

// present names what there is of the kind that is asked for.
func (s Selector) present(devices []Device) string {
	mig := s.Kind == SelectMIGAll || s.Kind == SelectMIGUUID || s.Kind == SelectMIGIndex
	var names []string
	for _, d := range devices {
		if !mig {
			note := fmt.Sprintf("index %d", d.Index)
			if d.Excluded {
				note = "excluded"
			} else if len(d.MIG) > 0 {
				note += fmt.Sprintf(", %d MIG devices", len(d.MIG))
			} else if d.MIGMode {
				note += ", in MIG mode and empty"
			} else if d.Kept != "" {
				note += ", kept for MIG"
			}
			names = append(names, fmt.Sprintf("%s (%s)", orUnknown(d.UUID, "GPU-?"), note))
			continue
		}
		for _, m := range d.MIG {
			note := ""
			if d.record.of(m.GI) != "" {
				note = ", another's"
			}
			names = append(names, fmt.Sprintf("%s (%d:%d%s)", orUnknown(m.UUID, "MIG-?"), d.Index, m.Index, note))
		}
	}
	const most = 8
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return strings.Join(names, ", ") + "; see `berth gpu ls`"
}

func orUnknown(s, unknown string) string {
	if s == "" {
		return unknown
	}
	return s
}
