// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/fakedriver"
)

// TestLinksInDev wants the links to DRM nodes where the container sees them: in
// a mount over the new /dev that the runtime makes. A /dev of the host's and a
// mount of the user's are left alone.
func TestLinksInDev(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2})
	const byPath = "/dev/dri/by-path"
	for name, c := range map[string]struct {
		mounts []specs.Mount
		want   bool
	}{
		"new /dev":      {[]specs.Mount{{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}}, true},
		"host's /dev":   {[]specs.Mount{{Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind"}}}, false},
		"user's mount":  {[]specs.Mount{{Destination: "/dev", Type: "tmpfs"}, {Destination: "/dev/dri", Type: "bind", Source: "/mnt"}}, false},
		"image's /dev ": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
			dir := bundle(t, changed(container("index:1"), func(s *specs.Spec) {
				s.Annotations[AnnotationPrefix+"gpu-capabilities"] = "graphics"
				s.Mounts = c.mounts
			}))
			if err := create(t, h, dir, "c"); err != nil {
				t.Fatal(err)
			}
			var spec specs.Spec
			if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, "config.json"))), &spec); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == byPath })
			if (i >= 0) != c.want {
				t.Fatalf("mounts %+v", spec.Mounts)
			}
			at := filepath.Join(dir, "rootfs", byPath)
			if c.want {
				at = spec.Mounts[i].Source
			}
			target, err := os.Readlink(filepath.Join(at, "pci-"+d.GPUs[1].BusID+"-card"))
			if seen := c.want || c.mounts == nil; seen != (target == "../card2") {
				t.Errorf("link %q, %v", target, err)
			}
		})
	}
}
