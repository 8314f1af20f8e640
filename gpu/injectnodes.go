// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"path"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// injectNodes plans the device nodes, with the numbers that they have now. In
// a user namespace the runtime cannot make nodes: it binds the host's, which
// must be there then.
func (s *survey) injectNodes(plan *Plan, bound bool) error {
	req, caps := plan.Request, plan.Request.Capabilities
	add := func(reason string) func([]Node, error) error {
		return func(nodes []Node, err error) error {
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if bound && n.Host == "" {
					if n, err = s.roots.Node(n.Path); err != nil {
						return err
					}
				}
				plan.node(n, reason)
			}
			return nil
		}
	}
	if len(s.selected) > 0 {
		if err := add("control of the driver")(s.inv.ControlNodes(caps)); err != nil {
			return err
		}
	}
	for _, d := range s.selected {
		if d.Instance != nil {
			if err := add("MIG device " + d.Instance.UUID)(s.inv.InstanceNodes(d.Device, *d.Instance)); err != nil {
				return err
			}
			continue
		}
		nodes, links, err := s.inv.DeviceNodes(d.Device, caps)
		if err := add("GPU "+d.Device.UUID)(nodes, err); err != nil {
			return err
		}
		for _, l := range links {
			plan.link(l.Path, l.Target, "DRM node of GPU "+d.Device.UUID)
		}
	}
	for _, channel := range req.IMEX {
		n, err := s.inv.IMEXNode(channel)
		if err := add(string(IMEX))([]Node{n}, err); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		wanted bool
		extra  Extra
	}{{req.AllIMEX, IMEX}, {req.GDS, GDS}, {req.MOFED, MOFED}, {req.GDRCopy, GDRCopy}, {req.NVSwitch, NVSwitch}} {
		if !x.wanted {
			continue
		}
		if err := add(string(x.extra))(s.inv.ExtraNodes(x.extra)); err != nil {
			return err
		}
	}
	return nil
}

// injectLinks plans the symlinks that programs expect. One that would lie in a
// mount of the user's is left out: it would be written into the root file
// system below, where nobody sees it.
func (s *survey) injectLinks(plan *Plan, spec *specs.Spec, base string, caps Capability) {
	for _, l := range s.files.Links {
		if !l.For(caps) {
			continue
		}
		dest := place(l.Path, l.Kind, base)
		if dest != path.Join(base, l.Path) && covered(spec, dest) {
			continue
		}
		plan.link(dest, l.Target, "programs look for it by this name")
		if gbm := path.Join(base, "lib64/gbm"); path.Dir(dest) == gbm && !hasEnv(spec, "GBM_BACKENDS_PATH") {
			plan.env = append(plan.env, planned[string]{"GBM_BACKENDS_PATH=" + gbm, "libgbm looks nowhere else for it"})
		}
	}
}

// place is where a file goes that has a path of its own, or one below the
// directory of libraries.
func place(p string, k Kind, base string) string {
	switch {
	case filepath.IsAbs(p):
		return p
	case k == Library32:
		return path.Join(base, "lib", p)
	}
	return path.Join(base, "lib64", p)
}
