// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// inject plans what a container gets of the surveyed host.
func (s *survey) inject(plan *Plan, spec *specs.Spec, p *Planner) error {
	if err := s.injectNodes(plan, userNamespace(spec)); err != nil {
		return err
	}
	base := libraryBase(spec)
	if base == "" {
		return fmt.Errorf("mounts of the container cover each of %s: leave one of them free for the driver's libraries: %w",
			strings.Join(libraryBases[:], ", "), errdefs.ErrInvalidArgument)
	}
	caps := plan.Request.Capabilities
	for _, f := range s.files.Files {
		if !f.For(caps) {
			continue
		}
		reason := fmt.Sprintf("capability %s", f.Capability&caps)
		dest := place(f.Path, f.Kind, base)
		if inVolume(spec, dest) {
			continue // who mounts a directory wants what is in it
		}
		plan.file(f.Host, dest, reason)
		if f.Soname != "" {
			plan.loader.add(path.Dir(dest), f.Soname, f.ABI)
		}
	}
	s.injectLinks(plan, spec, base, caps)
	plan.plantTree(s.roots, base)
	if caps&(Graphics|Display) != 0 && !covered(spec, profilePath) {
		for _, d := range s.selected {
			plan.show(d.Device.Minor)
		}
	}
	if caps&Compute != 0 {
		plan.env = append(plan.env, planned[string]{"NVIDIA_CTK_LIBCUDA_DIR=" + base + "/lib64", "programs look there for libcuda, as NVIDIA's toolkit has them do"})
	}
	if plan.Request.GDS {
		s.injectStorage(plan)
	}
	for _, socket := range Sockets(s.roots) {
		own := socket.Name == "mps" && plan.Request.MPS != nil // the pod has a daemon of its own
		if own || !slices.Contains(p.Sockets, socket.Name) || inVolume(spec, socket.Path) {
			continue
		}
		plan.mounts = append(plan.mounts, planned[specs.Mount]{
			specs.Mount{Source: socket.Host, Destination: socket.Path, Type: "bind", Options: socketOptions},
			"sockets has " + socket.Name,
		})
	}
	plan.loader.hidden = covered(spec, "/etc/ld.so.cache") || covered(spec, "/etc/ld.so.conf.d")
	if p.CUDACompat && caps&Compute != 0 {
		plan.loader.driver = s.inv.DriverVersion
	}
	// A second injector below us (nvidia-container-runtime as the OCI runtime)
	// is to find nothing left to do.
	plan.env = append(plan.env, planned[string]{"NVIDIA_VISIBLE_DEVICES=void", "all of it is injected already"})
	return nil
}

// injectStorage adds what GPUDirect Storage reads beside its devices: of which
// driver a block device is, and its own configuration.
func (s *survey) injectStorage(plan *Plan) {
	root, err := openRoot(s.roots.Driver)
	if err != nil {
		return
	}
	defer root.close()
	for _, p := range [...]string{"/run/udev", "/etc/cufile.json"} {
		if at, _, err := root.resolve(p); err == nil {
			plan.file(at, p, string(GDS))
		}
	}
}
