// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"slices"
	"strconv"
	"strings"
)

// elsewhere says whether a process is one of a container of another shim, that
// holds a GPU: an Xid which names it has hit that container, whoever else has
// the GPU. A process of no container (the MPS server, which works for others)
// says nothing.
func (h *Hook) elsewhere(pid int) bool {
	if pid <= 0 {
		return false
	}
	cgroups, err := readProc(h.Roots.proc(strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return false // it is gone
	}
	claims, err := h.Roots.Claims()
	return err == nil && slices.ContainsFunc(claims, func(c Claim) bool {
		return len(c.Devices) > 0 && !h.holds(c) && inCgroupOf(string(cgroups), c.ID)
	})
}

func (h *Hook) holds(c Claim) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return c.Namespace == h.Namespace && h.holders[c.ID] != nil
}

// inCgroupOf looks in /proc/PID/cgroup for a cgroup of a container's, or one
// below. It is named by the container's id: "/NAMESPACE/ID" and, by systemd,
// "/…/cri-containerd-ID.scope".
func inCgroupOf(cgroups, id string) bool {
	for line := range strings.Lines(cgroups) {
		for name := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			scope, isScope := strings.CutSuffix(name, ".scope")
			if name == id || isScope && strings.HasSuffix(scope, "-"+id) {
				return true
			}
		}
	}
	return false
}
