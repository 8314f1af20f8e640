// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestApplicationProfile(t *testing.T) {
	node := func(path string, minor int64) specs.LinuxDevice { return specs.LinuxDevice{Path: path, Minor: minor} }
	hooks := func(args ...string) *specs.Hooks {
		return &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/usr/bin/nvidia-cdi-hook", Args: append([]string{"nvidia-cdi-hook"}, args...)}}}
	}
	for _, c := range []struct {
		name  string
		spec  specs.Spec
		masks string // the file's setting; empty: no file
	}{
		{"two GPUs", specs.Spec{Hooks: hooks("update-application-profile"), Linux: &specs.Linux{Devices: []specs.LinuxDevice{
			node("/dev/nvidia0", 0), node("/dev/nvidia5", 5), node("/dev/nvidiactl", 255), node("/dev/nvidia-uvm", 0), node("/dev/dri/nvidia3", 3)}}}, "0x21"},
		{"a minor too great", specs.Spec{Hooks: hooks("update-application-profile"), Linux: &specs.Linux{Devices: []specs.LinuxDevice{node("/dev/nvidia64", 64)}}}, ""},
		{"no GPU", specs.Spec{Hooks: hooks("update-application-profile"), Linux: &specs.Linux{Devices: []specs.LinuxDevice{node("/dev/nvidiactl", 255)}}}, ""},
		{"not asked for", specs.Spec{Hooks: hooks("update-ldcache", "--folder", "/lib"), Linux: &specs.Linux{Devices: []specs.LinuxDevice{node("/dev/nvidia0", 0)}}}, ""},
		{"below a mount of the user's", specs.Spec{Hooks: hooks("update-application-profile"), Mounts: []specs.Mount{{Destination: "/etc/nvidia"}},
			Linux: &specs.Linux{Devices: []specs.LinuxDevice{node("/dev/nvidia0", 0)}}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p Plan
			if err := p.carryOut(&c.spec); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := p.installIn(dir, os.Getuid(), os.Getgid()); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(dir, profilePath))
			if (err == nil) != (c.masks != "") {
				t.Fatalf("profile %q, %v; want mask %q", text, err, c.masks)
			}
			if c.masks == "" {
				return
			}
			want := `{"profiles":[{"name":"container","settings":["EGLVisibleDGPUDevices",` + c.masks + `]}],"rules":[{"pattern":[],"profile":"container"}]}`
			if string(text) != want {
				t.Errorf("profile %s, want %s", text, want)
			}
		})
	}
}
