// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"berth/gpu/nvml"
	"berth/process"
	"berth/process/cgroup"
)

// Tenant is a container that uses the slices of a group: its own, or with others those of its pod.
// Its shim has it on disk before the first slice is made, and removes it when the container has
// gone: that is the release, and all else is carrying it out. A slice is kept as long as one tenant
// of its group lives.
type Tenant struct {
	Namespace string `json:"namespace"` // containerd's
	Container string `json:"container"`
	Group     string `json:"group"`         // nvml.Owner's
	Pod       string `json:"pod,omitempty"` // whose containers share the group
	BootID    string `json:"boot_id"`       // all that follows is of this boot
	PID       int    `json:"pid"`           // the shim's
	StartTime uint64 `json:"start_time"`    // as in nvml.Owner
	// PIDNamespace is where PID is one: in another pid namespace another process has it, or none.
	// Write fills it in with that of the process that writes.
	PIDNamespace uint64 `json:"pid_namespace"`
	// Cgroups are where the runtime makes the container's: it is not there yet when this is
	// written, and where the spec does not say, there is more than one place.
	Cgroups []cgroup.Location `json:"cgroups,omitempty"`
}

// Life is what there is of a tenant, or of an owner through its tenants.
type Life string

const (
	Gone     Life = ""
	Served   Life = "its shim lives"
	Orphaned Life = "its shim is gone, and its processes live"
	Unknown  Life = "whether it lives cannot be told"
	Hidden   Life = "whether it lives cannot be told, since its shim is in another pid namespace"
)

// tenants is the folder of all tenants; each one's name says who it is, and which slices it uses,
// even if what is in it cannot be read.
func tenants(run string) string { return filepath.Join(run, "gpu", "tenants") }

func (t *Tenant) name() string { return t.Namespace + ":" + t.Container + ":" + t.Group + suffix }

// check holds the names against what may be one: no two tenants have the same file, and none has
// one elsewhere.
func (t *Tenant) check() error {
	o := nvml.Owner{Namespace: t.Namespace, Container: t.Container, Pod: t.Pod, Group: t.Group, PID: 1, StartTime: 1}
	if err := o.Check(); err != nil || strings.ContainsRune(t.Namespace+t.Container+t.Group, ':') || strings.HasPrefix(t.Namespace, ".") {
		return fmt.Errorf("tenant %+v", *t)
	}
	return nil
}

// Write has the tenant on disk.
func (t *Tenant) Write(run string) error {
	if err := t.check(); err != nil {
		return err
	}
	written := *t
	if written.PIDNamespace == 0 {
		ns, err := process.PIDNamespace()
		if err != nil {
			return fmt.Errorf("write tenant: %w", err)
		}
		written.PIDNamespace = ns
	}
	data, err := json.Marshal(written)
	if err != nil {
		return err
	}
	dir := tenants(run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write tenant: %w", err)
	}
	scratch, err := Scratch()
	if err == nil {
		err = replace(dir, scratch+t.name(), t.name(), data, func(string) {})
	}
	if err != nil {
		return fmt.Errorf("write tenant: %w", err)
	}
	return nil
}

// Remove forgets the tenant. It may be gone already.
func (t *Tenant) Remove(run string) error {
	if err := t.check(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(tenants(run), t.name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove tenant: %w", err)
	}
	return nil
}

// Tenants are those of all groups. One that cannot be read has its names alone.
func Tenants(run string) ([]*Tenant, error) {
	entries, err := os.ReadDir(tenants(run))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read tenants: %w", err)
	}
	var out []*Tenant
	for _, e := range entries {
		names := strings.SplitN(strings.TrimSuffix(e.Name(), suffix), ":", 3)
		if len(names) != 3 || strings.HasPrefix(e.Name(), ".") {
			continue // one that is being written
		}
		data, err := readSmall(filepath.Join(tenants(run), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		t := new(Tenant)
		if err != nil || json.Unmarshal(data, t) != nil || t.name() != e.Name() || t.check() != nil {
			t = &Tenant{Namespace: names[0], Container: names[1], Group: names[2]}
		}
		out = append(out, t)
	}
	return out, nil
}

// Of says that the tenant uses an owner's slices.
func (t *Tenant) Of(o nvml.Owner) bool { return t.Group == o.Group }

// Without says that a group is in no record. One that cannot be read may be its.
func Without(run, group string) (bool, error) {
	records, whole, err := Records(run)
	return whole && !slices.ContainsFunc(records, func(r *Record) bool { return r.Owner.Group == group }), err
}

// Records are those of all GPUs, without their locks; whole says that each could be read.
func Records(run string) (out []*Record, whole bool, err error) {
	gpus, err := GPUs(run)
	whole = err == nil
	for _, busID := range gpus {
		d, err := Open(run, busID, nil)
		if err != nil {
			return nil, false, err
		}
		records, torn, err := d.Read()
		if err != nil {
			return nil, false, err
		}
		out, whole = append(out, records...), whole && len(torn) == 0
	}
	return out, whole, err
}

// Prune forgets tenants that are gone and whose groups are in no record: their shims died before
// they could, and nobody cleaned up after them. So are files that a shim was killed while it wrote.
func Prune(run, bootID string) error {
	scratch := errors.Join(pruneScratch(tenants(run)), pruneScratch(filepath.Join(run, "gpu", "claims")))
	all, err := Tenants(run)
	records, whole, recordsErr := Records(run)
	if err := errors.Join(scratch, err, recordsErr); err != nil || !whole {
		return err
	}
	for _, t := range all {
		if t.Life(bootID) == Gone && !slices.ContainsFunc(records, func(r *Record) bool { return t.Of(r.Owner) }) {
			err = errors.Join(err, t.Remove(run))
		}
	}
	return err
}
