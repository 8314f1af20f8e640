// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/hooks"
)

// Update keeps the container's GPUs where a new list of devices would take
// them away: who sends it knows the container as it was before the injection.
// runc does not look at the list at all (update.go, SkipDevices); others do.
func (h *Hook) Update(_ context.Context, bundle string, resources []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(resources, &fields); err != nil {
		return nil, fmt.Errorf("decode resources: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	var wanted []specs.LinuxDeviceCgroup
	if err := json.Unmarshal(fields["devices"], &wanted); fields["devices"] == nil || err != nil || len(wanted) == 0 {
		return resources, nil // what is wrong with it the runtime says
	}
	claim := h.heldBy(bundle)
	if claim == nil {
		return resources, nil
	}
	spec, err := hooks.LoadSpec(bundle, claim.ID)
	if err != nil {
		return nil, err
	}
	oci, err := spec.OCI()
	if err != nil {
		return nil, err
	}
	if oci.Linux == nil {
		return resources, nil
	}
	res := &specs.LinuxResources{Devices: wanted}
	for _, d := range oci.Linux.Devices {
		if slices.ContainsFunc(claim.Entries, func(e Entry) bool { return e.Kind == "device" && e.Path == d.Path }) {
			allow(res, Node{Major: uint32(d.Major), Minor: uint32(d.Minor)})
		}
	}
	if fields["devices"], err = json.Marshal(res.Devices); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

func (h *Hook) heldBy(bundle string) *Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.holders {
		if c.Bundle == bundle {
			return c
		}
	}
	return nil
}
