// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

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
	if oci.Linux == nil || oci.Linux.Resources == nil {
		return resources, nil
	}
	ours := given(claim, oci.Linux.Devices)
	for _, rule := range oci.Linux.Resources.Devices {
		if rule.Allow && rule.Major != nil && rule.Minor != nil && ours[deviceNumber{*rule.Major, *rule.Minor}] {
			wanted = append(wanted, rule) // of several the last counts
		}
	}
	if fields["devices"], err = json.Marshal(wanted); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// deviceNumber is a device's, major and minor.
type deviceNumber [2]int64

// given are the numbers of the devices that are a container's by the plan, and
// of those by CDI.
func given(claim *Claim, devices []specs.LinuxDevice) map[deviceNumber]bool {
	out := make(map[deviceNumber]bool)
	for _, e := range claim.Entries {
		var n deviceNumber
		if _, err := fmt.Sscanf(e.From, "c %d:%d", &n[0], &n[1]); e.Kind == "device" && err == nil {
			out[n] = true // also one that is bound, and in no list of the spec's
		}
	}
	for _, d := range devices {
		if strings.HasPrefix(d.Path, "/dev/nvidia") || strings.HasPrefix(d.Path, "/dev/dri/") {
			out[deviceNumber{d.Major, d.Minor}] = true
		}
	}
	return out
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
