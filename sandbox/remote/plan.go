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
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox"
	"berth/sandbox/agentapi"
	"berth/sandbox/vm/vfio"
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
	shmSize uint64              // of the pod's /dev/shm, in bytes; 0 if it has none
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
	case filepath.Clean(m.Destination) == "/dev/shm":
		p.shmSize = sizeOf(m.Source)
		m.Source = agentapi.ShmDir
		return m, nil
	case !filepath.IsAbs(m.Source):
		return m, refuse("the source %q of the mount of %s is not absolute", m.Source, m.Destination)
	}
	// Ids are mapped on the host: no mount of virtiofs can.
	b.mapped, m.UIDMappings, m.GIDMappings = len(m.UIDMappings) > 0, nil, nil
	m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "idmap" || o == "ridmap" })
	p.binds = append(p.binds, b)
	m.Source = filepath.Join(share, b.name)
	return m, nil
}

// defaultShm is what the CRI gives a pod, in bytes.
const defaultShm = 64 << 20

// sizeOf is the size of the file system that the host has for a pod's /dev/shm.
func sizeOf(path string) uint64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Blocks == 0 {
		return defaultShm
	}
	return fs.Blocks * uint64(fs.Bsize)
}

// linux rewrites the linux section.
func (p *plan) linux(s *specs.Spec, id string) (*specs.Linux, error) {
	linux := *s.Linux
	linux.CgroupsPath = "/berth/" + id
	linux.MountLabel, linux.IntelRdt, linux.NetDevices = "", nil, nil
	if r := linux.Resources; r != nil { // those that name devices or pages of the host's
		resources := *r
		resources.BlockIO, resources.Rdma, resources.HugepageLimits = nil, nil, nil
		resources.Devices = guestRules(r.Devices, s.Linux.Devices)
		linux.Resources = &resources
	}
	switch linux.RootfsPropagation {
	case "shared", "rshared":
		linux.RootfsPropagation = "rslave"
	}
	linux.Devices = nil
	for _, d := range s.Linux.Devices {
		switch {
		case d.Type == "b" && has(s, specs.UserNamespace):
			// A runtime binds the node of that name then, which the guest has not.
			return nil, refuse("the block device %s comes with a user namespace (hostUsers: false)", d.Path)
		case d.Type == "b":
			var rules []specs.LinuxDeviceCgroup
			if s.Linux.Resources != nil {
				rules = s.Linux.Resources.Devices
			}
			p.blockDevice(d, rules)
		case vfio.Is(d):
			p.vfio = append(p.vfio, d)
		case everyKernels(d):
			linux.Devices = append(linux.Devices, d)
		default:
			return nil, refuse("the device %s (%s %d:%d) is the host's, which the guest does not have", d.Path, d.Type, d.Major, d.Minor)
		}
	}
	linux.Sysctl = nil
	for name, value := range s.Linux.Sysctl {
		into := &linux.Sysctl
		if strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "net/") {
			into = &p.sysctls
		}
		if *into == nil {
			*into = make(map[string]string)
		}
		(*into)[name] = value
	}
	var err error
	linux.Namespaces, err = p.namespaces(s)
	return &linux, err
}

// everyKernels is true for the devices of memory and of terminals, which are
// the same on every kernel (Documentation/admin-guide/devices.txt).
func everyKernels(d specs.LinuxDevice) bool {
	return d.Type == "c" && (d.Major == 1 && d.Minor != 1 && d.Minor != 2 && d.Minor != 4 || d.Major == 5 && d.Minor == 0)
}

// namespaces rewrites the namespaces. The network is the guest's own, which is
// the pod's.
func (p *plan) namespaces(s *specs.Spec) ([]specs.LinuxNamespace, error) {
	has := make(map[specs.LinuxNamespaceType]bool)
	var out []specs.LinuxNamespace
	for _, ns := range s.Linux.Namespaces {
		has[ns.Type] = true
		path := ns.Path
		ns.Path = ""
		switch {
		case ns.Type == specs.NetworkNamespace:
			continue
		case ns.Type == specs.UserNamespace && (path == "" || s.Annotations[containerType] == sandboxType):
			p.users = path // what is mapped is in the spec
		case path == "":
		case ns.Type == specs.UserNamespace, ns.Type == specs.IPCNamespace, ns.Type == specs.UTSNamespace, ns.Type == specs.PIDNamespace:
			sandbox := s.Annotations[SandboxAnnotation]
			if sandbox == "" {
				return nil, refuse("the %s namespace is %s, of a process that is not in this VM", ns.Type, path)
			}
			if p.join == nil {
				p.join = make(map[string]string)
			}
			p.join[string(ns.Type)] = sandbox
		default:
			return nil, refuse("the %s namespace is %s, which is one of the host's kernel", ns.Type, path)
		}
		out = append(out, ns)
	}
	for _, need := range []struct {
		kind specs.LinuxNamespaceType
		name string
	}{
		{specs.NetworkNamespace, "hostNetwork"}, {specs.PIDNamespace, "hostPID"}, {specs.IPCNamespace, "hostIPC"},
	} {
		if !has[need.kind] {
			return nil, refuse("the container is to share the host's %s namespace (%s), which no VM can", need.kind, need.name)
		}
	}
	return out, nil
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
