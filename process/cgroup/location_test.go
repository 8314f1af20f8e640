// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// tree writes /proc files of a fake host.
func tree(t *testing.T, mountinfo string, cgroups map[string]string, dirs ...string) view {
	t.Helper()
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("/proc/self/mountinfo", mountinfo)
	for pid, text := range cgroups {
		put(filepath.Join("/proc", pid, "cgroup"), text)
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return view{root}
}

func TestLocate(t *testing.T) {
	const tmpfs = "30 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
	cases := map[string]struct {
		mountinfo, cgroup string
		version           Version
		dirs              map[string]string
	}{
		"v1 with joint controllers": {
			mountinfo: tmpfs +
				"31 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n" +
				"32 30 0:30 / /sys/fs/cgroup/systemd rw shared:2 master:3 - cgroup cgroup rw,xattr,name=systemd\n" +
				"33 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			cgroup:  "4:cpu,cpuacct:/a/b\n3:memory:/a/b\n1:name=systemd:/a\n0::/a\n",
			version: V1,
			dirs: map[string]string{
				"cpu": "/sys/fs/cgroup/cpu,cpuacct/a/b", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a/b",
				"memory": "/sys/fs/cgroup/memory/a/b", "name=systemd": "/sys/fs/cgroup/systemd/a",
			},
		},
		"hybrid": {
			mountinfo: tmpfs + "99 30 0:99 / /o rw - overlay overlay rw,lowerdir=" + strings.Repeat("/l:", mountLine) + "\n" +
				"31 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"32 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
			cgroup:  "2:memory:/m\n0::/u\n",
			version: Hybrid,
			dirs:    map[string]string{"memory": "/sys/fs/cgroup/memory/m", Unified: "/sys/fs/cgroup/unified/u"},
		},
		"v2 beside a named hierarchy": {
			mountinfo: "31 30 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n32 30 0:30 / /run/elogind rw - cgroup cgroup rw,name=elogind\n",
			cgroup:    "1:name=elogind:/1\n0::/x:y\n",
			version:   V2,
			dirs:      map[string]string{Unified: "/sys/fs/cgroup/x:y", "name=elogind": "/run/elogind/1"},
		},
		"nested mount root": {
			mountinfo: "31 30 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" +
				"32 30 0:30 /docker/abc /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n",
			cgroup:  "2:memory:/docker/abc/inner\n1:pids:/docker/abcd\n",
			version: V1,
			dirs:    map[string]string{"memory": "/sys/fs/cgroup/memory/inner"},
		},
		"second mount shows it": {
			mountinfo: "31 30 0:29 /other /mnt/a ro - cgroup cgroup rw,memory\n32 30 0:29 / /mnt/b\\040c ro - cgroup cgroup rw,memory\n",
			cgroup:    "2:memory:/docker\n",
			version:   V1,
			dirs:      map[string]string{"memory": "/mnt/b c/docker"},
		},
		"outside the cgroup namespace, removed, malformed": {
			mountinfo: "31 30 0:29 / /m rw - cgroup cgroup rw,memory\n32 30 0:30 /.. /p rw - cgroup cgroup rw,pids\nshort - cgroup x y\n" +
				"33 30 0:31 / /f rw - cgroup cgroup rw,freezer\n34 30 0:32 / /d rw - cgroup cgroup rw,devices\n",
			cgroup:  "5:memory:/../x\n4:pids:/x\n3:freezer:/x (deleted)\n2:devices:/x\nrubbish\n1:cpu\n",
			version: V1,
			dirs:    map[string]string{"devices": "/d/x"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			v := tree(t, tc.mountinfo, map[string]string{"9": tc.cgroup})
			mounts, err := v.mounts()
			if err != nil {
				t.Fatal(err)
			}
			loc, err := v.locate("9", mounts)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for controller, dir := range loc.Dirs {
				got[controller] = dir.Path
			}
			if loc.Version != tc.version || !reflect.DeepEqual(got, tc.dirs) {
				t.Errorf("got %s %v, want %s %v", loc.Version, got, tc.version, tc.dirs)
			}
		})
	}
}

// What the container shares with the caller is marked, whether it is the
// caller's cgroup, one above it, or the root; a sibling with a longer name is
// not above it.
func TestShared(t *testing.T) {
	const mountinfo = "31 30 0:29 / /cg rw - cgroup2 cgroup2 rw\n"
	for name, tc := range map[string]struct {
		self, container string
		shared          bool
	}{
		"same":         {"/shim", "/shim", true},
		"above":        {"/pod/shim", "/pod", true},
		"root":         {"/shim", "/", true},
		"both root":    {"/", "/", true},
		"below":        {"/pod", "/pod/c", false},
		"sibling":      {"/pod/shim", "/pod/c", false},
		"longer name":  {"/pod-2", "/pod", false},
		"caller root":  {"/", "/c", false},
		"root outside": {"/../..", "/", true},
	} {
		t.Run(name, func(t *testing.T) {
			v := tree(t, mountinfo, map[string]string{"self": "0::" + tc.self, "9": "0::" + tc.container}, filepath.Join("/cg", tc.container))
			c, err := v.open(9)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.Location().Dirs[Unified].Shared; got != tc.shared {
				t.Errorf("shared is %v, want %v", got, tc.shared)
			}
		})
	}
}

// The record is read by a later version of the program.
func TestLocationRecord(t *testing.T) {
	loc := Location{Version: Hybrid, Dirs: map[string]Dir{"memory": {Path: "/m/x", Inode: 7}, Unified: {Path: "/u", Shared: true}}}
	text, err := json.Marshal(loc)
	if err != nil {
		t.Fatal(err)
	}
	const golden = `{"version":"hybrid","dirs":{"":{"path":"/u","shared":true},"memory":{"path":"/m/x","inode":7}}}`
	if string(text) != golden {
		t.Errorf("record is %s", text)
	}
	var back Location
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, loc) {
		t.Errorf("read back %+v, %v", back, err)
	}
}
