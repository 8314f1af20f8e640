// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

const (
	maxAsks    = 64
	maxTimeout = 2 * 60 * 60 * 1000 // milliseconds
	maxIdle    = 60 * 60 * 1000
	maxReport  = 4096
	maxSlots   = 64
)

// DecodeMIGRequest reads a request, at most so much of it as is any. A field that is not known
// may be a restriction that would go unheeded: it is an error.
func DecodeMIGRequest(r io.Reader) (*MIGRequest, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	var q MIGRequest
	if err := decodeStrict(data, &q, true); err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	if err := q.check(); err != nil {
		return nil, fmt.Errorf("the request: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return &q, nil
}

func decodeStrict(data []byte, into any, known bool) error {
	if len(data) > maxBytes {
		return fmt.Errorf("%d bytes, at most %d are read: %w", len(data), maxBytes, errdefs.ErrInvalidArgument)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if known {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one document: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func (q *MIGRequest) check() error {
	switch {
	case !filepath.IsAbs(q.Run) || strings.ContainsRune(q.Run, 0):
		return fmt.Errorf("run is %q, no absolute path", q.Run)
	case !isWord(q.BootID) || !isWord(q.Driver.Version) || !isWord(q.Driver.Load):
		return fmt.Errorf("boot %q, driver %+v", q.BootID, q.Driver)
	case q.TimeoutMS <= 0 || q.TimeoutMS > maxTimeout:
		return fmt.Errorf("timeout_ms is %d", q.TimeoutMS)
	case q.KeepIdleMS < 0 || q.KeepIdleMS > maxIdle:
		return fmt.Errorf("keep_idle_ms is %d", q.KeepIdleMS)
	case len(q.Asks) > maxAsks || len(q.GPUs) > maxDevices:
		return fmt.Errorf("%d asks, %d GPUs", len(q.Asks), len(q.GPUs))
	}
	total := 0
	for _, a := range q.Asks {
		if a.Profile == "" && a.Memory == 0 || a.Profile != "" && (a.Memory != 0 || !isWord(a.Profile)) || a.Count < 1 || a.Count > maxAsks {
			return fmt.Errorf("ask %+v", a)
		}
		total += a.Count
	}
	if total > maxAsks {
		return fmt.Errorf("%d slices, at most %d", total, maxAsks)
	}
	for _, g := range q.GPUs {
		if !IsBusID(g.BusID) {
			return fmt.Errorf("bus id %q", g.BusID)
		}
	}
	if q.For != "" && !isWord(q.For) {
		return fmt.Errorf("for is %q", q.For)
	}
	if q.Owner != nil {
		return q.Owner.Check()
	}
	return nil
}

// Check holds an owner against the grammar of containerd's ids.
func (o *Owner) Check() error {
	if !isWord(o.Namespace) || !isWord(o.Container) || o.Pod != "" && !isWord(o.Pod) || !isWord(o.Group) || o.PID <= 0 || o.StartTime == 0 {
		return fmt.Errorf("owner %+v", *o)
	}
	return nil
}

// IsBusID says that it is one as in /proc/driver/nvidia/gpus, which is safe as a file's name.
func IsBusID(id string) bool { return isBusID(id) }

// isWord is for names and versions: no control characters, no separators.
func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("._-+:", c) >= 0) {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// DecodeMIGAcquired reads the answer of acquire. There is a slice for each that was asked for.
func DecodeMIGAcquired(data []byte, want int) (*MIGAcquired, error) {
	var a MIGAcquired
	if err := decodeStrict(data, &a, false); err != nil {
		return nil, fmt.Errorf("read what berth-gpu wrote: %w", err)
	}
	if len(a.Slices) != want {
		return nil, fmt.Errorf("berth-gpu made %d slices, asked for %d: %w", len(a.Slices), want, errdefs.ErrInvalidArgument)
	}
	for _, s := range a.Slices {
		if !match(s.GPU, "GPU-"+uuid) || !isBusID(s.BusID) || !match(s.UUID, "MIG-"+uuid) || !isWord(s.ID) || !isWord(s.Profile) ||
			s.Index < 0 || s.Index >= maxDevices || s.Minor < 0 || s.Minor > 1<<20 || s.GI < 0 || s.GI > 255 || s.CI < 0 || s.CI > 255 || !s.Place.ok() {
			return nil, fmt.Errorf("berth-gpu, slice %+v: %w", s, errdefs.ErrInvalidArgument)
		}
	}
	return &a, nil
}

func (p Place) ok() bool { return p.Start >= 0 && p.Size > 0 && p.Start+p.Size <= maxSlots }

// DecodeMIGReport reads the answer of release and sweep.
func DecodeMIGReport(data []byte) (*MIGReport, error) {
	var r MIGReport
	if err := decodeStrict(data, &r, false); err != nil {
		return nil, fmt.Errorf("read what berth-gpu wrote: %w", err)
	}
	if len(r.Actions) > maxReport {
		return nil, fmt.Errorf("berth-gpu told of %d records: %w", len(r.Actions), errdefs.ErrInvalidArgument)
	}
	for _, a := range r.Actions {
		if !isBusID(a.BusID) || a.Owner != nil && a.Owner.Check() != nil {
			return nil, fmt.Errorf("berth-gpu, record %+v: %w", a, errdefs.ErrInvalidArgument)
		}
	}
	return &r, nil
}

// DecodeMIGList reads the answer of ls.
func DecodeMIGList(data []byte) (*MIGList, error) {
	var l MIGList
	if err := decodeStrict(data, &l, false); err != nil {
		return nil, fmt.Errorf("read what berth-gpu wrote: %w", err)
	}
	if len(l.GPUs) > maxDevices {
		return nil, fmt.Errorf("berth-gpu named %d GPUs: %w", len(l.GPUs), errdefs.ErrInvalidArgument)
	}
	for _, g := range l.GPUs {
		if err := g.check(); err != nil {
			return nil, fmt.Errorf("berth-gpu: %w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	return &l, nil
}

func (g *MIGGPU) check() error {
	least, known := 0, match(g.UUID, "GPU-"+uuid)
	if g.Error != nil {
		least, known = -1, known || g.UUID == ""
	}
	if !known || !isBusID(g.BusID) || g.Index < least || g.Index >= maxDevices || g.Slots < 0 || g.Slots > maxSlots || len(g.Instances) > maxMIG {
		return fmt.Errorf("GPU %d, %q, %q, %d slots, %d instances", g.Index, g.UUID, g.BusID, g.Slots, len(g.Instances))
	}
	for _, in := range g.Instances {
		if in.GI < 0 || in.GI > 255 || !in.Place.ok() || in.Place.Start+in.Place.Size > g.Slots || in.Owner != nil && in.Owner.Check() != nil {
			return fmt.Errorf("instance %+v", in)
		}
		for _, u := range in.UUIDs {
			if !match(u, "MIG-"+uuid) {
				return fmt.Errorf("MIG device %q", u)
			}
		}
	}
	return nil
}
