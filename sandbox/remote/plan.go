// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox"
	"berth/sandbox/agentapi"
)

// maxSpec bounds config.json, in bytes: what it becomes has to fit a message of
// ttrpc, which has 4 MiB.
const maxSpec = 3 << 20

// plan is what becomes of a container's spec.
type plan struct {
	spec    []byte              // for the guest's runtime
	binds   []bind              // what of the host's the container gets
	join    map[string]string   // namespaces of other containers, by type
	sysctls map[string]string   // of the network namespace
	users   string              // the pod's user namespace on the host, in the plan of the container that it came with
	tmpfs   []*agentapi.Tmpfs   // in the guest's memory, which the pod's containers have in common
	disks   string              // where the guest has the container's file systems on disks
	mounts  []*diskMount        // those file systems
	devices []*diskDevice       // disks that the container gets as they are
	vfio    []specs.LinuxDevice // devices that are the guest's from its boot on
}

// place is where the guest has what a container gets.
type place struct {
	share string // what of the host's is shared with it
	disks string // file systems of the guest's own
}

// SandboxAnnotation names the pod's first container to the others (CRI).
const SandboxAnnotation = "io.kubernetes.cri.sandbox-id"

func readSpec(bundle string) (*specs.Spec, error) {
	f, err := os.OpenFile(filepath.Join(bundle, "config.json"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSpec {
		return nil, fmt.Errorf("config.json has more than %d bytes, which is what a VM's may have: %w", maxSpec, errdefs.ErrInvalidArgument)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, fmt.Errorf("read config.json: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return spec, nil
}

// planFor rewrites a spec for the guest, where it has another kernel, no file
// of the host's but what is shared, and for a network what the pod has. It does
// not change s. What cannot be had in a VM is refused. rootfs is what the guest
// makes the root file system of; where there is none it is in the bundle.
func planFor(id, bundle string, at place, rootfs []sandbox.Mount, s *specs.Spec) (*plan, error) {
	out := *s
	p := &plan{disks: at.disks}
	share := at.share
	if s.Root == nil || s.Process == nil || s.Linux == nil {
		return nil, refuse("the spec has no root, process or linux section")
	}
	root := s.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(bundle, root)
	}
	if len(rootfs) > 0 {
		var err error
		if p.mounts, err = layOut(at.disks, rootfs); err != nil {
			return nil, err
		}
		root = filepath.Join(at.disks, "rootfs")
	} else {
		// Also one that is to be read-only can be written to until the guest's
		// runtime has made the mount points in it. It is the container's own.
		p.binds = append(p.binds, bind{name: "rootfs", source: root})
		root = filepath.Join(share, "rootfs")
	}
	out.Root = &specs.Root{Path: root, Readonly: s.Root.Readonly}
	out.Hooks = nil // programs of the host's
	process := *s.Process
	process.ApparmorProfile, process.SelinuxLabel = "", "" // of the host's kernel
	if process.OOMScoreAdj == nil {                        // what the agent has, which is never killed, would be inherited
		process.OOMScoreAdj = new(int)
	}
	out.Process = &process
	out.Mounts = nil
	for _, m := range s.Mounts {
		m, err := p.mount(m, share)
		if err != nil {
			return nil, err
		}
		out.Mounts = append(out.Mounts, m)
	}
	linux, err := p.linux(s, id)
	if err != nil {
		return nil, err
	}
	out.Linux = linux
	p.inUserNamespace(&out, has(s, specs.UserNamespace))
	if p.spec, err = json.Marshal(out); err != nil {
		return nil, err
	}
	return p, nil
}

// refuse is the error of what cannot be had in a VM.
func refuse(format string, args ...any) error {
	return fmt.Errorf("in a VM: "+format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// guestMounts are the types of mount that are made by the guest's kernel alone.
var guestMounts = map[string]bool{
	"proc": true, "sysfs": true, "tmpfs": true, "devpts": true, "mqueue": true, "cgroup": true, "cgroup2": true,
}

// mount rewrites one mount.
func (p *plan) mount(m specs.Mount, share string) (specs.Mount, error) {
	b := bind{name: strconv.Itoa(len(p.binds)), source: m.Source}
	bound := m.Type == "bind"
	for _, o := range m.Options {
		switch o {
		case "bind":
			bound = true
		case "rbind":
			bound, b.rec = true, true
		case "ro", "rro":
			b.readOnly = true
		case "idmap", "ridmap": // m says so as well
		case "shared", "rshared":
			return m, refuse("the mount of %s has Bidirectional propagation: no mount of a guest reaches the host", m.Destination)
		}
	}
	switch {
	case !bound && guestMounts[m.Type]:
		return m, nil
	case !bound && slices.Contains(diskTypes, m.Type):
		return p.volume(m)
	case !bound:
		return m, refuse("the mount of %s is of type %q, which is neither a bind nor of the kernel's own", m.Destination, m.Type)
	case !filepath.IsAbs(m.Source):
		return m, refuse("the source %q of the mount of %s is not absolute", m.Source, m.Destination)
	}
	t, err := p.inMemory(m)
	if err != nil {
		return m, err
	}
	// Ids are mapped on the host: no mount of virtiofs can, nor a tmpfs before Linux 6.3.
	b.mapped, m.UIDMappings, m.GIDMappings = len(m.UIDMappings) > 0, nil, nil
	m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "idmap" || o == "ridmap" })
	if t != nil {
		return p.addTmpfs(m, t), nil
	}
	p.binds = append(p.binds, b)
	m.Source = filepath.Join(share, b.name)
	return m, nil
}

// guestProcess is the process of an exec for the guest: without the labels of
// the host's kernel. All else keeps its bytes.
func guestProcess(process []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(process, &fields); err != nil || fields == nil {
		return nil, errors.Join(fmt.Errorf("the exec's spec is no OCI process: %w", errdefs.ErrInvalidArgument), err)
	}
	delete(fields, "apparmorProfile")
	delete(fields, "selinuxLabel")
	return json.Marshal(fields)
}
