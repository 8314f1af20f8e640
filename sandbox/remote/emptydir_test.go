// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// TestEmptyDirs has volumes as kubelet makes them: those in memory, and parts of them, become
// the guest's, and all others are shared.
func TestEmptyDirs(t *testing.T) {
	kubelet := t.TempDir()
	mount := func(source, target, kind string, flags uintptr, data string) string {
		t.Helper()
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
		return target
	}
	mount("tmpfs", kubelet, "tmpfs", 0, "") // where its disk is: an emptyDir there is none in memory
	pod := filepath.Join(kubelet, "pods", "u")
	cache := mount("tmpfs", filepath.Join(pod, "volumes", emptyDirPlugin, "cache"), "tmpfs", 0, "size=4m,mode=2777,gid=5")
	disk := filepath.Join(pod, "volumes", emptyDirPlugin, "disk")
	for _, dir := range []string{filepath.Join(cache, "a", "b"), filepath.Join(disk, "a")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	part := mount(filepath.Join(cache, "a", "b"), filepath.Join(pod, subPathDir, "cache", "c", "0"), "", unix.MS_BIND, "")
	diskPart := mount(filepath.Join(disk, "a"), filepath.Join(pod, subPathDir, "disk", "c", "1"), "", unix.MS_BIND, "")
	secret := mount("tmpfs", filepath.Join(pod, "volumes", "kubernetes.io~secret", "s"), "tmpfs", 0, "")
	shm := mount("tmpfs", filepath.Join(pod, "shm"), "tmpfs", 0, "size=3m")
	var st unix.Stat_t
	if err := unix.Stat(cache, &st); err != nil {
		t.Fatal(err)
	}
	mapped := fmt.Sprintf("cache.%d %d 2777 1000:1005 [nodev]", st.Dev, 4<<20)
	whole := fmt.Sprintf("cache.%d %d 2777 0:5 [nodev]", st.Dev, 4<<20)

	for name, c := range map[string]struct {
		source, at string
		mapped     uint32 // so many ids, from 1000 on
		want       string
		parts      string
	}{
		"whole":                 {source: cache, at: "/c", want: whole},
		"whole at /dev/shm":     {source: cache, at: "/dev/shm", want: whole},
		"a part":                {source: part, at: "/c", want: whole, parts: "a=2750 a/b=2750 -> /disks/1/memory0"},
		"a directory in it":     {source: filepath.Join(cache, "a"), at: "/c", want: whole, parts: "a=2750 -> /disks/1/memory0"},
		"its ids are mapped":    {source: cache, at: "/c", mapped: 6, want: mapped},
		"mapped at /dev/shm":    {source: cache, at: "/dev/shm", mapped: 6, want: mapped},
		"a part, mapped":        {source: part, at: "/c", mapped: 6, want: mapped, parts: "a=2750 a/b=2750 -> /disks/1/memory0"},
		"not all are mapped":    {source: cache, at: "/c", mapped: 5}, // its group is not
		"on disk, mapped":       {source: disk, at: "/c", mapped: 6},
		"a secret at /dev/shm":  {source: secret, at: "/dev/shm"},
		"on disk":               {source: disk, at: "/c"},
		"a part of one on disk": {source: diskPart, at: "/c"},
		"on disk at /dev/shm":   {source: "/proc/self", at: "/dev/shm"},
		"of another kind":       {source: secret, at: "/c"},
		"missing":               {source: filepath.Join(cache, "none"), at: "/c"},
		"the pod's /dev/shm":    {source: shm, at: "/dev/shm", want: fmt.Sprintf("shm %d 1777 0:0 [nosuid nodev noexec]", 3<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plan{disks: "/disks/1"}
			m := specs.Mount{Type: "bind", Source: c.source, Destination: c.at}
			if c.mapped > 0 {
				m.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: c.mapped}}
				m.GIDMappings, m.Options = m.UIDMappings, []string{"rbind", "ridmap"}
			}
			m, err := p.mount(m, "/share")
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(p.tmpfs) != 0 || len(p.binds) != 1 || m.Source != "/share/0" || p.binds[0].mapped != (c.mapped > 0) {
					t.Errorf("%v, %v: %+v", p.tmpfs, p.binds, m)
				}
				return
			}
			if len(p.tmpfs) != 1 || len(p.binds) != 0 {
				t.Fatalf("%v, %v", p.tmpfs, p.binds)
			}
			got := p.tmpfs[0]
			if m.UIDMappings != nil || m.GIDMappings != nil || slices.Contains(m.Options, "ridmap") {
				t.Errorf("the guest's kernel is to map ids: %+v", m)
			}
			for _, d := range got.Directories {
				if d.Uid != got.Uid || d.Gid != got.Gid { // theirs on the host, too
					t.Errorf("%s is %d:%d, its file system %d:%d", d.Name, d.Uid, d.Gid, got.Uid, got.Gid)
				}
			}
			if text := fmt.Sprintf("%s %d %o %d:%d %v", got.Name, got.Size, got.Mode, got.Uid, got.Gid, got.Options); text != c.want {
				t.Errorf("%s, want %s", text, c.want)
			}
			parts, source := "", filepath.Join(agentapi.TmpfsDir, got.Name)
			for _, d := range got.Directories {
				parts += fmt.Sprintf("%s=%o ", d.Name, d.Mode)
			}
			if parts != "" {
				parts, source = parts+"-> "+got.Target, got.Target
			}
			if parts != c.parts || m.Source != source {
				t.Errorf("parts %q, want %q; source %s", parts, c.parts, m.Source)
			}
		})
	}
}
