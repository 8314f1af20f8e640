// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Plan is what a container gets. It is decided before anything is done, so
// that `berth gpu explain` can show it.
type Plan struct {
	Request *Request
	Devices []Selected

	nodes  []planned[Node]
	mounts []planned[specs.Mount]
	links  []planned[Link] // both paths are the container's
	env    []planned[string]
	mps    []planned[string] // what is asked of a daemon
	loader loaderPlan
	drop   []planned[int] // indexes in spec.Mounts
	cdi    []cdiHookCall  // entries of the spec's hooks that are carried out here
	// build makes the directory of the host that is mounted where the
	// libraries are, with treeLinks in it; nil where there is none.
	build     func() error
	treeLinks []planned[Link]
	// visible has a bit for each minor of a GPU that EGL is to look for.
	visible uint64
}

type planned[T any] struct {
	what   T
	reason string
}

// Entry is one line of a plan.
type Entry struct {
	Kind   string `json:"kind"` // device, mig, mps, mount, link, file, env, loader, hook
	Path   string `json:"path"` // in the container
	From   string `json:"from,omitempty"`
	Reason string `json:"reason"`
}

// Entries lists the plan, in the order in which it is carried out.
func (p *Plan) Entries() []Entry {
	var out []Entry
	for _, n := range p.nodes {
		out = append(out, Entry{"device", n.what.Path, fmt.Sprintf("c %d:%d", n.what.Major, n.what.Minor), n.reason})
	}
	for _, d := range p.drop {
		out = append(out, Entry{"drop", fmt.Sprintf("mounts[%d]", d.what), "", d.reason})
	}
	if s := p.Request.Slices; s != nil && len(p.Devices) == 0 {
		out = append(out, Entry{"mig", p.Request.Asked, "", "MIG devices are made when the container is, on a GPU with room for them"})
	}
	for _, m := range p.mps {
		out = append(out, Entry{"mps", m.what, "", m.reason})
	}
	for _, m := range p.mounts {
		out = append(out, Entry{"mount", m.what.Destination, m.what.Source, m.reason})
	}
	for _, e := range p.env {
		out = append(out, Entry{"env", e.what, "", e.reason})
	}
	for _, c := range p.cdi {
		out = append(out, Entry{"hook", c.name, "", "carried out by the shim; the host's program is not run"})
	}
	for _, l := range slices.Concat(p.treeLinks, p.links) {
		out = append(out, Entry{"link", l.what.Path, l.what.Target, l.reason})
	}
	if p.visible != 0 {
		out = append(out, Entry{"file", profilePath, "", "EGL and Vulkan are to look for the container's GPUs alone"})
	}
	for _, dir := range p.loader.dirs {
		out = append(out, Entry{"loader", dir.Path, "", "the loader's cache of the container gets its libraries"})
	}
	return out
}

// Options of mounts. A container cannot change what it is given: ro. A socket
// has to be written to.
var (
	fileOptions   = []string{"ro", "nosuid", "nodev", "rbind", "rprivate"}
	socketOptions = []string{"nosuid", "nodev", "noexec", "rbind", "rprivate"}
)

// libraryBases are where the driver's libraries may go in a container: a
// directory of their own, so that they can neither hide nor be hidden by what
// the image has. CUDA images have the first in LD_LIBRARY_PATH.
var libraryBases = [...]string{"/usr/local/nvidia", "/usr/local/berth/nvidia", "/opt/berth/nvidia"}

// libraryBase is the first of libraryBases into which the user has mounted
// nothing, empty if there is none: its mount points must be made in the root
// file system, not in a volume.
func libraryBase(spec *specs.Spec) string {
	for _, base := range libraryBases {
		if !covered(spec, base) && !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return below(m.Destination, base) }) {
			return base
		}
	}
	return ""
}

// inVolume is true where a path lies in a directory that the user has mounted,
// in which the runtime would make mount points, for all the world to see.
func inVolume(spec *specs.Spec, path string) bool {
	return slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		return bind && below(path, m.Destination)
	})
}

// covered is true where a mount of the spec hides path or one of its parents.
func covered(spec *specs.Spec, path string) bool {
	return slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return below(path, m.Destination) })
}

// below is true if p is dir, or in it.
func below(p, dir string) bool {
	p, dir = path.Clean("/"+p), path.Clean("/"+dir)
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

func (p *Plan) node(n Node, reason string) {
	if !slices.ContainsFunc(p.nodes, func(o planned[Node]) bool { return o.what.Path == n.Path }) {
		p.nodes = append(p.nodes, planned[Node]{n, reason})
	}
}

func (p *Plan) file(host, dest, reason string) {
	p.mounts = append(p.mounts, planned[specs.Mount]{specs.Mount{Source: host, Destination: dest, Type: "bind", Options: fileOptions}, reason})
}

func (p *Plan) link(path, target, reason string) {
	p.links = append(p.links, planned[Link]{Link{Path: path, Target: target}, reason})
}

// Holdings are the devices as a claim has them.
func (p *Plan) Holdings() []Holding {
	var out []Holding
	for _, d := range p.Devices {
		out = append(out, Holding{UUID: d.Device.UUID, BusID: d.Device.BusID, Index: d.Device.Index, MIG: d.Instance})
	}
	return out
}
