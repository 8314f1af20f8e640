// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/rootfs"
)

// profilePath is an application profile of the driver's (its README, "Application
// Profiles"), by the name that NVIDIA's toolkit gives it.
const profilePath = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"

// show has EGL and Vulkan look for a GPU. Without a profile they look for all
// of the host's, and some programs fail at the first that they may not open.
func (p *Plan) show(minor int) {
	if minor >= 0 && minor < 64 {
		p.visible |= 1 << minor
	}
}

// showNodes shows the GPUs whose nodes are in a spec.
func (p *Plan) showNodes(spec *specs.Spec) {
	if spec.Linux == nil || covered(spec, profilePath) {
		return
	}
	for _, d := range spec.Linux.Devices {
		if _, ok := numbered(path.Base(d.Path), "nvidia"); ok && path.Dir(d.Path) == "/dev" {
			p.show(int(d.Minor))
		}
	}
}

func (p *Plan) installProfile(root *rootfs.Root) error {
	if p.visible == 0 {
		return nil
	}
	if err := root.MkdirAll(path.Dir(profilePath)); err != nil {
		return err
	}
	return root.WriteFile(profilePath, fmt.Appendf(nil,
		`{"profiles":[{"name":"container","settings":["EGLVisibleDGPUDevices",0x%x]}],"rules":[{"pattern":[],"profile":"container"}]}`, p.visible), 0o444)
}
