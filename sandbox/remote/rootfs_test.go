// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"berth/sandbox"
)

// lines are mounts as a test reads them.
func lines(mounts []*diskMount) (out []string) {
	for _, m := range mounts {
		line := fmt.Sprintf("%s %s", m.Target, m.Type)
		if m.disk != nil {
			line += fmt.Sprintf(" disk=%s ro=%v", m.disk, m.disk.readOnly)
		}
		for _, d := range m.devices {
			line += fmt.Sprintf(" device=%s", d)
		}
		if m.Source != "" {
			line += " source=" + m.Source
		}
		line += " " + strings.Join(m.Options, ",")
		for _, d := range m.Directories {
			line += fmt.Sprintf(" +%s:%o:%d:%d", d.Name, d.Mode, d.Uid, d.Gid)
		}
		out = append(out, line)
	}
	return out
}

// What containerd 2.4's snapshotters give becomes the guest's mounts.
func TestLayOut(t *testing.T) {
	empty := t.TempDir()
	for name, c := range map[string]struct {
		in   []sandbox.Mount
		want []string
	}{
		"blockfile": {
			[]sandbox.Mount{{Type: "ext4", Source: "/s/1", Options: []string{"rw", "loop"}}},
			[]string{"/d/rootfs ext4 disk=/s/1 ro=false "},
		},
		"view of a blockfile": {
			[]sandbox.Mount{{Type: "ext4", Source: "/s/1", Options: []string{"loop", "ro"}}},
			[]string{"/d/rootfs ext4 disk=/s/1 ro=true ro"},
		},
		"one layer of erofs": {
			[]sandbox.Mount{{Type: "erofs", Source: "/s/1", Options: []string{"ro", "loop"}}},
			[]string{"/d/rootfs erofs disk=/s/1 ro=true ro"},
		},
		"layers of erofs and a disk to write to": {
			[]sandbox.Mount{
				{Type: "ext4", Source: "/s/rw", Options: []string{"rw", "loop"}},
				{Type: "erofs", Source: "/s/2", Options: []string{"ro", "loop"}},
				{Type: "erofs", Source: "/s/1", Options: []string{"ro", "loop"}},
				{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
					"X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "X-containerd.mkdir.path={{ mount 0 }}/work:0755:3:4",
					"workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/upper", "lowerdir={{ overlay 1 2 }}", "index=off",
				}},
			},
			[]string{
				"/d/0 ext4 disk=/s/rw ro=false nosuid,nodev +upper:755:0:0 +work:755:3:4",
				"/d/1 erofs disk=/s/2 ro=true ro,nosuid,nodev",
				"/d/2 erofs disk=/s/1 ro=true ro,nosuid,nodev",
				"/d/rootfs overlay workdir=/d/0/work,upperdir=/d/0/upper,lowerdir=/d/1:/d/2,index=off",
			},
		},
		"merged layers, read-only": {
			[]sandbox.Mount{
				{Type: "erofs", Source: "/s/merged", Options: []string{"ro", "loop", "device=/s/2", "device=/s/1"}},
				{Type: "format/bind", Source: "{{ mount 0 }}", Options: []string{"ro", "rbind"}},
			},
			[]string{
				"/d/0 erofs disk=/s/merged ro=true device=/s/2 device=/s/1 ro,nosuid,nodev",
				"/d/rootfs bind source=/d/0 ro",
			},
		},
		"upper directory of the host": {
			[]sandbox.Mount{
				{Type: "erofs", Source: "/s/1", Options: []string{"ro"}},
				{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{"workdir=/w", "upperdir=" + empty, "lowerdir={{ mount 0 }}"}},
			},
			[]string{
				"/d/0 erofs disk=/s/1 ro=true ro,nosuid,nodev",
				"/d/upper tmpfs nosuid,nodev,mode=0755 +upper:755:0:0 +work:755:0:0",
				"/d/rootfs overlay lowerdir=/d/0,upperdir=/d/upper/upper,workdir=/d/upper/work",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !isOnDisks(c.in) {
				t.Error("it is left to the host")
			}
			mounts, err := layOut("/d", c.in)
			if got := lines(mounts); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
	for _, m := range []sandbox.Mount{{Type: "overlay", Source: "overlay"}, {Type: "bind", Source: "/dev/sda"}} {
		if isOnDisks([]sandbox.Mount{m}) {
			t.Errorf("%+v is taken for a disk", m) // CVE-2026-24054
		}
	}
}

// What the guest cannot do is refused, and so is a template that leads astray.
func TestLayOutRefuses(t *testing.T) {
	disk := sandbox.Mount{Type: "erofs", Source: "/s/1", Options: []string{"ro"}}
	full := t.TempDir() + "/.."
	for name, c := range map[string]struct {
		mount sandbox.Mount
		says  string
	}{
		"xfs":        {sandbox.Mount{Type: "xfs", Source: "/dev/dm-1"}, `of type "xfs"`},
		"dm-verity":  {sandbox.Mount{Type: "erofs", Source: "/s", Options: []string{"X-containerd.dmverity=/m"}}, "dm-verity"},
		"mkfs":       {sandbox.Mount{Type: "mkfs/ext4", Source: "/s"}, `"mkfs/ext4"`},
		"an option":  {sandbox.Mount{Type: "ext4", Source: "/s", Options: []string{"X-containerd.new=1"}}, "X-containerd.new"},
		"mapped ids": {sandbox.Mount{Type: "format/overlay", Options: []string{"uidmap=0:1:1"}}, "mapped ids"},
		"a target":   {sandbox.Mount{Type: "ext4", Source: "/s", Target: "/etc"}, "at /etc"},
		"full upper": {sandbox.Mount{Type: "overlay", Options: []string{"upperdir=" + full}}, "default_size"},
		"itself":     {sandbox.Mount{Type: "format/bind", Source: "{{ mount 1 }}"}, "there are 1 before it"},
		"negative":   {sandbox.Mount{Type: "format/bind", Source: "{{ mount -1 }}"}, "there are 1 before it"},
		"unknown":    {sandbox.Mount{Type: "format/bind", Source: "{{ exec 0 }}"}, "is not known"},
		"no words":   {sandbox.Mount{Type: "format/bind", Source: "{{}}"}, "is not known"},
		"no end":     {sandbox.Mount{Type: "format/bind", Source: "{{ mount 0"}, "has no end"},
		"a bind":     {sandbox.Mount{Type: "bind", Source: "/etc"}, "binds /etc"},
		"upwards":    {sandbox.Mount{Type: "format/bind", Source: "{{ mount 0 }}/../.."}, "is the host's"},
		"a layer":    {sandbox.Mount{Type: "format/overlay", Options: []string{"lowerdir={{ mount 0 }}:/etc"}}, "the layer /etc"},
		"one more":   {sandbox.Mount{Type: "overlay", Options: []string{"lowerdir+=/etc"}}, "the layer /etc"},
		"outside":    {sandbox.Mount{Type: "mkdir/bind", Options: []string{"X-containerd.mkdir.path=/etc/x"}}, "not at the top"},
		"above":      {sandbox.Mount{Type: "mkdir/bind", Options: []string{"X-containerd.mkdir.path={{ mount 0 }}/a/b"}}, "not at the top"},
		"a mode":     {sandbox.Mount{Type: "mkdir/bind", Options: []string{"X-containerd.mkdir.path={{ mount 0 }}/a:4755"}}, "path[:mode"},
		"one owner":  {sandbox.Mount{Type: "mkdir/bind", Options: []string{"X-containerd.mkdir.path={{ mount 0 }}/a:755:1"}}, "path[:mode"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := layOut("/d", []sandbox.Mount{disk, c.mount})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

// Whatever a template is, it is the name of a directory in a mount, or refused.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{ mount 0 }}/upper:0755", "{{ overlay 0 1 }}", "{{", "{{ mount 0 }}/..", "a{{mount 1}}b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l := &layout{dir: "/d", points: []string{"/d/0", "/d/1"}, mounts: []*diskMount{{}, {}}}
		l.mounts[0].Target, l.mounts[1].Target = "/d/0", "/d/1"
		if out, err := l.resolve(s); err == nil && strings.Contains(s, "{{") && strings.Contains(out, "{{") && !strings.Contains(s, "}}") {
			t.Errorf("%q became %q", s, out)
		}
		if err := l.directory(s); err == nil {
			for _, m := range l.mounts {
				for _, d := range m.Directories {
					if d.Name == ".." || d.Name == "." || strings.Contains(d.Name, "/") {
						t.Errorf("%q makes %q", s, d.Name)
					}
				}
			}
		}
	})
}
