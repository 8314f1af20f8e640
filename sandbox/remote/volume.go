// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/vm/vfio"
)

// diskDevice is a disk that a container gets as a block device.
type diskDevice struct {
	agentapi.BlockDevice
	disk diskSource
}

// volume rewrites a mount whose source is a file system on a disk: the guest
// mounts that, and the container's runtime binds it.
func (p *plan) volume(m specs.Mount) (specs.Mount, error) {
	if !path.IsAbs(m.Source) {
		return m, refuse("the source %q of the mount of %s is not absolute", m.Source, m.Destination)
	}
	readOnly := m.Type == "erofs" || slices.Contains(m.Options, "ro")
	on := &diskMount{disk: &diskSource{path: m.Source, readOnly: readOnly}}
	on.Target, on.Type = path.Join(p.disks, "volume"+strconv.Itoa(len(p.mounts))), m.Type
	// What the runtime has to say of any mount stays with the bind.
	options := []string{"bind"}
	for _, o := range m.Options {
		name, _, _ := strings.Cut(o, "=")
		switch {
		case o == "shared" || o == "rshared":
			return m, refuse("the mount of %s has Bidirectional propagation: no mount of a guest reaches the host", m.Destination)
		case o == "loop" || o == "defaults":
		case name == "device" || strings.HasPrefix(name, "X-containerd."):
			return m, refuse("the option %q of the mount of %s is not for a volume", o, m.Destination)
		case slices.Contains(bindOptions, o):
			options = append(options, o)
		default:
			on.Options = append(on.Options, o)
		}
	}
	if readOnly {
		on.Options = append(on.Options, "ro")
		if !slices.Contains(options, "ro") {
			options = append(options, "ro")
		}
	}
	p.mounts = append(p.mounts, on)
	m.Type, m.Source, m.Options = "bind", on.Target, options
	return m, nil
}

// bindOptions are of a mount, not of a file system (runc's "Mount Options").
var bindOptions = []string{
	"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "relatime", "norelatime", "atime", "noatime",
	"strictatime", "diratime", "nodiratime", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable",
	"idmap", "ridmap", // by the guest's kernel, whose file system it is
}

// blockDevice takes over a block device of the host's.
func (p *plan) blockDevice(d specs.LinuxDevice, rules []specs.LinuxDeviceCgroup) {
	access := accessTo(d, rules)
	b := &diskDevice{disk: diskSource{
		device: unix.Mkdev(uint32(d.Major), uint32(d.Minor)), readOnly: !strings.Contains(access, "w"),
	}}
	b.Path, b.Access, b.Mode = d.Path, access, 0o600
	if d.FileMode != nil {
		b.Mode = uint32(*d.FileMode) & 0o777
	}
	if d.UID != nil {
		b.Uid = *d.UID
	}
	if d.GID != nil {
		b.Gid = *d.GID
	}
	p.devices = append(p.devices, b)
}

// accessTo is what the rules of the device controller leave of a device, of
// which the last that says something of it holds. Without any it is nothing.
func accessTo(d specs.LinuxDevice, rules []specs.LinuxDeviceCgroup) string {
	access := ""
	for _, a := range "rwm" {
		allowed := false
		for _, r := range rules {
			if (r.Type == "" || r.Type == "a" || r.Type == d.Type) && matches(r.Major, d.Major) && matches(r.Minor, d.Minor) &&
				(r.Access == "" || strings.ContainsRune(r.Access, a)) {
				allowed = r.Allow
			}
		}
		if allowed {
			access += string(a)
		}
	}
	return access
}

// matches is true where a rule's number, of which -1 is any, is the device's.
func matches(rule *int64, number int64) bool { return rule == nil || *rule == -1 || *rule == number }

// guestRules are the rules without those that allow what has its number from the
// host: block devices, because in the guest it is other disks that have such
// numbers; devices whose drivers are given a number when they are loaded, as that
// of the agent's port is; and devices that are passed through. A rule for all of one
// kind has those among them.
func guestRules(rules []specs.LinuxDeviceCgroup, devices []specs.LinuxDevice) []specs.LinuxDeviceCgroup {
	return slices.DeleteFunc(slices.Clone(rules), func(r specs.LinuxDeviceCgroup) bool {
		if !r.Allow {
			return false
		}
		if matches(r.Major, -1) && matches(r.Minor, -1) { // all devices, or that all may be made
			return r.Type != "" && r.Type != "a" && r.Access != "m"
		}
		return r.Type != "c" || mayBeDynamic(r.Major) || slices.ContainsFunc(devices, func(d specs.LinuxDevice) bool {
			return vfio.Is(d) && matches(r.Major, d.Major) && matches(r.Minor, d.Minor)
		})
	})
}

// mayBeDynamic is true where a rule is of character devices whose major number is
// what a kernel had left (Documentation/admin-guide/devices.txt).
func mayBeDynamic(major *int64) bool {
	return matches(major, -1) || *major >= 234 && *major <= 254 || *major >= 384 && *major <= 511
}

// checkDisks finds out whether there are the disks, without opening any.
func (p *plan) checkDisks() error {
	var all []diskSource
	for _, m := range p.mounts {
		if m.disk != nil {
			all = append(all, *m.disk)
		}
		all = append(all, m.devices...)
	}
	for _, d := range p.devices {
		all = append(all, d.disk)
	}
	for _, s := range all {
		found, err := s.find()
		if err != nil {
			return err
		}
		_ = found.at.Close()
	}
	return nil
}

// addDisks gives the guest the disks of a container, and says in the request
// what is to become of them.
func (p *plan) addDisks(ctx context.Context, r *guest, id string, q *agentapi.CreateRequest) (err error) {
	for _, m := range p.mounts {
		if m.disk != nil {
			if m.Disk, err = r.addDisk(ctx, id, *m.disk); err != nil {
				return err
			}
		}
		for _, d := range m.devices {
			serial, err := r.addDisk(ctx, id, d)
			if err != nil {
				return err
			}
			m.Devices = append(m.Devices, serial)
		}
		q.Mounts = append(q.Mounts, &m.Mount)
	}
	for _, d := range p.devices {
		if d.Disk, err = r.addDisk(ctx, id, d.disk); err != nil {
			return err
		}
		q.Devices = append(q.Devices, &d.BlockDevice)
	}
	return nil
}
