// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// cdiHookCall is one entry of a spec's hooks by which NVIDIA's CDI specs finish
// an injection from inside of the container, carried out here instead. The
// commands and their flags are those of nvidia-cdi-hook(1) 1.20.
type cdiHookCall struct {
	name    string
	links   []Link
	folders []string
	compat  string // the driver's version, if the image's CUDA may be preferred to it
}

// parseCDIHook returns false for a hook that is not NVIDIA's, or that wants
// something which is not understood: such a one stays in the spec.
func parseCDIHook(h specs.Hook) (cdiHookCall, bool) {
	if !isCDIHook(h) {
		return cdiHookCall{}, false
	}
	args := rest(h.Args, 1)
	if path.Base(h.Path) == cdiTool {
		args = rest(args, 1)
	}
	if len(args) == 0 {
		return cdiHookCall{}, false
	}
	c := cdiHookCall{name: args[0]}
	flags, ok := parseFlags(args[1:])
	if !ok {
		return cdiHookCall{}, false
	}
	return c, c.understand(flags)
}

func rest(args []string, n int) []string { return args[min(n, len(args)):] }

type cdiFlag struct{ name, value string }

// parseFlags reads --name=value and --name value.
func parseFlags(args []string) (flags []cdiFlag, ok bool) {
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		args = args[1:]
		if !strings.HasPrefix(name, "-") {
			return nil, false
		}
		if !joined {
			if len(args) == 0 {
				return nil, false
			}
			value, args = args[0], args[1:]
		}
		flags = append(flags, cdiFlag{strings.TrimLeft(name, "-"), value})
	}
	return flags, true
}

func (c *cdiHookCall) understand(flags []cdiFlag) bool {
	for _, f := range flags {
		switch c.name + " " + f.name {
		case "create-symlinks link":
			target, link, ok := strings.Cut(f.value, "::")
			if !ok || !path.IsAbs(link) {
				return false
			}
			c.links = append(c.links, Link{Path: link, Target: target})
		case "update-ldcache folder":
			c.folders = append(c.folders, f.value)
		case "update-ldcache ldconfig-path":
		case "enable-cuda-compat host-driver-version":
			c.compat = f.value
		case "enable-cuda-compat host-cuda-version":
		case "update-application-profile container-spec":
		case "apply-cuda-memory-limits driver-root", "apply-cuda-memory-limits gpu-id":
		case "chmod mode", "chmod path":
		default:
			return false
		}
	}
	switch c.name {
	case "create-symlinks", "update-ldcache", "enable-cuda-compat", "update-application-profile", "apply-cuda-memory-limits":
		return true
	case "chmod":
		// It gives directories below /dev the mode that runc makes them with.
		return !slices.ContainsFunc(flags, func(f cdiFlag) bool {
			return f.name == "mode" && strings.TrimLeft(f.value, "0") != "755" || f.name == "path" && !below(f.value, "/dev")
		})
	case "disable-device-node-modification":
		// It hides from libcuda that it may make device nodes. What it would
		// make, the device cgroup does not let it use.
		return true
	}
	return false
}

// limits is true for an entry that sets a limit: NVML alone can, so that it is
// left to the host's program. Without these variables that does nothing.
func (c cdiHookCall) limits(spec *specs.Spec) bool {
	return c.name == "apply-cuda-memory-limits" && (hasEnv(spec, "NVIDIA_GPU_MEMORY_LIMIT") || hasEnv(spec, "NVIDIA_GPU_MEMORY_REQUEST"))
}

// hookLists are all lists in which an entry may be.
func hookLists(h *specs.Hooks) []*[]specs.Hook {
	if h == nil {
		return nil
	}
	//lint:ignore SA1019 Prestart is deprecated, and still used.
	return []*[]specs.Hook{&h.Prestart, &h.CreateRuntime, &h.CreateContainer, &h.StartContainer, &h.Poststart, &h.Poststop}
}

// edited finds out which devices of this host containerd has put into the spec
// by CDI. The container holds them like any other, and does not get one that is
// barred, nor whole one that is sliced, nor a MIG device that was made for another.
func (p *Planner) edited(ctx context.Context, plan *Plan, spec *specs.Spec) error {
	inv, err := Discover(p.Roots)
	if err != nil || spec.Linux == nil {
		return nil // what the nodes are for is not known
	}
	if err := p.keep(ctx, inv); err != nil {
		return err
	}
	given := func(n Node) bool {
		return slices.ContainsFunc(spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == n.Path })
	}
	for _, d := range inv.Devices {
		if !given(Node{Path: fmt.Sprintf("/dev/nvidia%d", d.Minor)}) {
			continue
		}
		if err := p.notBarred(d); err != nil {
			return err
		}
		before := len(plan.Devices)
		for _, in := range d.MIG {
			nodes, err := inv.InstanceNodes(d, in)
			if err != nil || slices.ContainsFunc(nodes, func(n Node) bool { return !given(n) }) {
				continue
			}
			if whose := d.record.of(in.GI); whose != "" {
				return theirsErr(fmt.Sprintf("MIG device gi%d of the GPU at %s", in.GI, d.BusID), whose)
			}
			plan.Devices = append(plan.Devices, Selected{Device: d, Instance: &in})
		}
		if len(plan.Devices) == before {
			if err := notKept(Selected{Device: d}); err != nil {
				return err
			}
			plan.Devices = append(plan.Devices, Selected{Device: d})
		}
	}
	return nil
}

// carryOut plans the rest of an injection that containerd has begun by CDI.
func (p *Plan) carryOut(spec *specs.Spec) error {
	for _, list := range hookLists(spec.Hooks) {
		for _, h := range *list {
			c, ok := parseCDIHook(h)
			if !ok || c.limits(spec) {
				continue
			}
			p.cdi = append(p.cdi, c)
			for _, l := range c.links {
				p.link(l.Path, l.Target, "create-symlinks of the CDI spec")
			}
			for _, dir := range c.folders {
				if !path.IsAbs(dir) {
					return fmt.Errorf("update-ldcache of the CDI spec names the folder %.80q: it must be absolute: %w", dir, errdefs.ErrInvalidArgument)
				}
				p.folder(spec, dir)
			}
			if c.compat != "" {
				p.loader.driver = c.compat
			}
			if c.name == "update-application-profile" {
				p.showNodes(spec)
			}
		}
	}
	p.loader.hidden = covered(spec, "/etc/ld.so.cache") || covered(spec, "/etc/ld.so.conf.d")
	return nil
}

// dropCDIHooks removes the entries that are carried out here.
func dropCDIHooks(spec *specs.Spec) {
	for _, list := range hookLists(spec.Hooks) {
		*list = slices.DeleteFunc(*list, func(h specs.Hook) bool { c, ok := parseCDIHook(h); return ok && !c.limits(spec) })
		if len(*list) == 0 {
			*list = nil
		}
	}
}
