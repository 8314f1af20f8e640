// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"berth/sandbox"
	"berth/sandbox/agentapi"
)

// diskTypes are the file systems that a guest's kernel mounts of a disk. The
// host's kernel, which anybody's image must not get at, never mounts them.
var diskTypes = []string{"ext2", "ext3", "ext4", "erofs"}

// MountCapabilities are what this package does with the mounts of a root file
// system in containerd's place (containerd.types.MountCapabilities). The file
// system of a writable layer is made by containerd (mkfs).
func MountCapabilities() (types, transforms []string) {
	return []string{"ext4", "erofs"}, []string{"format", "mkdir"}
}

// baseType is the type of a mount without containerd's transforms.
func baseType(kind string) string { return kind[strings.LastIndexByte(kind, '/')+1:] }

// isOnDisks is true for a root file system that the guest puts together.
func isOnDisks(rootfs []sandbox.Mount) bool {
	return slices.ContainsFunc(rootfs, func(m sandbox.Mount) bool {
		return slices.Contains(diskTypes, baseType(m.Type)) || strings.Contains(m.Type, "/") || m.Type == "xfs"
	})
}

// rootfses are those that wait for their containers to be created, by bundle.
type rootfses struct {
	mu      sync.Mutex
	waiting map[string][]sandbox.Mount
}

func (r *rootfses) put(bundle string, rootfs []sandbox.Mount) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = make(map[string][]sandbox.Mount)
	}
	r.waiting[bundle] = rootfs
}

func (r *rootfses) get(bundle string) []sandbox.Mount {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[bundle]
}

func (r *rootfses) drop(bundle string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, bundle)
}

// diskMount is a mount of the guest's, and the host's files that its disks are.
type diskMount struct {
	agentapi.Mount
	disk    *diskSource // nil without one
	devices []diskSource
}

// layout is a root file system in the making.
type layout struct {
	dir    string // of the guest
	mounts []*diskMount
	// points are the mount points, by the number that a template has for one.
	points []string
}

// layOut turns the mounts of a root file system into the guest's, the last of
// which is at dir/rootfs.
func layOut(dir string, rootfs []sandbox.Mount) ([]*diskMount, error) {
	l := &layout{dir: dir}
	for i, m := range rootfs {
		name := strconv.Itoa(i)
		if i == len(rootfs)-1 {
			name = "rootfs"
		}
		if err := l.add(path.Join(dir, name), m); err != nil {
			return nil, err
		}
	}
	return l.mounts, nil
}

func (l *layout) add(target string, m sandbox.Mount) error {
	kind := baseType(m.Type)
	for t := range strings.SplitSeq(strings.TrimSuffix(m.Type, kind), "/") {
		if t != "" && t != "format" && t != "mkdir" {
			return refuse("the mount %q of the root file system is to be made by %q, which is containerd's to do", m.Type, t)
		}
	}
	out := &diskMount{}
	out.Target, out.Type = target, kind
	onDisk := slices.Contains(diskTypes, kind)
	switch {
	case m.Target != "":
		return refuse("the root file system has a mount of its own at %s", m.Target)
	case onDisk:
		out.disk = &diskSource{path: m.Source, readOnly: kind == "erofs" || slices.Contains(m.Options, "ro")}
	case kind == "bind" || kind == "overlay":
	default:
		return refuse("the root file system is of type %q; %s on disks and overlays of them are possible", m.Type, strings.Join(diskTypes, ", "))
	}
	for _, o := range m.Options {
		if err := l.option(out, o); err != nil {
			return err
		}
	}
	if kind == "erofs" && !slices.Contains(out.Options, "ro") {
		out.Options = append(out.Options, "ro")
	}
	if kind == "bind" {
		var err error
		if out.Source, err = l.resolve(m.Source); err != nil {
			return err
		}
		if !l.has(out.Source) {
			return refuse("the root file system is on disks, and binds %s, which is the host's", m.Source)
		}
	}
	if kind == "overlay" {
		if err := l.upper(out); err != nil {
			return err
		}
		if err := l.checkLayers(out); err != nil {
			return err
		}
	}
	if target != path.Join(l.dir, "rootfs") { // a layer, which is used through another mount
		out.Options = append(out.Options, "nosuid", "nodev")
	}
	l.mounts = append(l.mounts, out)
	l.points = append(l.points, target)
	return nil
}

// has is true for a path in what the guest has mounted for this container. Another
// would lead to the guest's own files, by a name that means the host's.
func (l *layout) has(at string) bool { return strings.HasPrefix(path.Clean(at), l.dir+"/") }

// checkLayers refuses an overlay of directories that are not the guest's.
func (l *layout) checkLayers(m *diskMount) error {
	for _, o := range m.Options {
		name, value, _ := strings.Cut(o, "=")
		switch strings.TrimSuffix(name, "+") {
		case "lowerdir", "datadir", "upperdir", "workdir":
		default:
			continue
		}
		for dir := range strings.SplitSeq(value, ":") {
			if dir != "" && !l.has(dir) {
				return refuse("the root file system is on disks, and has the layer %s, which is a directory of the host's", dir)
			}
		}
	}
	return nil
}

// option takes over one option of a mount.
func (l *layout) option(m *diskMount, o string) error {
	name, value, _ := strings.Cut(o, "=")
	switch {
	case o == "rw" || o == "loop" || o == "bind" || o == "rbind" || o == "defaults":
		return nil
	case name == "device":
		m.devices = append(m.devices, diskSource{path: value, readOnly: true})
		return nil
	case name == "X-containerd.mkdir.path":
		return l.directory(value)
	case strings.HasPrefix(name, "X-containerd.dmverity"):
		return refuse("a layer is protected by dm-verity, which the guest does not do; " +
			`set dmverity_mode = "off" for the erofs snapshotter`)
	case strings.HasPrefix(name, "X-containerd."):
		return refuse("the option %q of the root file system is not known", name)
	case name == "uidmap" || name == "gidmap":
		return refuse("the root file system has mapped ids (%s)", name)
	}
	resolved, err := l.resolve(o)
	if err != nil {
		return err
	}
	m.Options = append(m.Options, resolved)
	return nil
}

// upper has an overlay whose upper directory is the host's write to the guest's
// memory instead: an upper directory on virtiofs does not work, because trusted
// attributes do not, and the host's kernel cannot make the overlay, because it
// would have to mount the layers. A container that is restarted begins with a
// new one in any case; what a restarted task would have is not dropped silently.
func (l *layout) upper(m *diskMount) error {
	at := slices.IndexFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "upperdir=") })
	if at < 0 {
		return nil
	}
	host := strings.TrimPrefix(m.Options[at], "upperdir=")
	if strings.HasPrefix(host, l.dir+"/") {
		return nil
	}
	if entries, err := os.ReadDir(host); err != nil || len(entries) > 0 {
		return refuse("the writable layer %s is a directory of the host's and not empty (%v); "+
			"set default_size for the erofs snapshotter, so that it is a disk", host, err)
	}
	memory := &diskMount{}
	memory.Target, memory.Type, memory.Options = path.Join(l.dir, "upper"), "tmpfs", []string{"nosuid", "nodev", "mode=0755"}
	memory.Directories = []*agentapi.Directory{{Name: "upper", Mode: 0o755}, {Name: "work", Mode: 0o755}}
	l.mounts = append(l.mounts, memory)
	m.Options = slices.DeleteFunc(m.Options, func(o string) bool {
		return strings.HasPrefix(o, "upperdir=") || strings.HasPrefix(o, "workdir=")
	})
	m.Options = append(m.Options, "upperdir="+memory.Target+"/upper", "workdir="+memory.Target+"/work")
	return nil
}
