// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"os"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestShippedOptions has each example show every option, under names that are
// understood, with values of the right type.
func TestShippedOptions(t *testing.T) {
	for _, shim := range []string{"pod", "gpu", "vm"} {
		t.Run(shim, func(t *testing.T) {
			_, options, ok := strings.Cut(read(t, "containerd-"+shim+".toml"), "."+shim+".options]\n")
			if !ok {
				t.Fatal("there is no table of options")
			}
			var text strings.Builder
			for line := range strings.Lines(options) {
				line = strings.TrimSpace(line)
				if commented, ok := strings.CutPrefix(line, "# "); ok && strings.Contains(commented, " = ") {
					line = commented
				}
				text.WriteString(line + "\n")
			}
			got, err := ParseTOML([]byte(text.String()))
			if err != nil {
				t.Fatal(err)
			}
			if want := (Runtime{SystemdCgroup: true}); got != want {
				t.Errorf("the example has %+v; the defaults are %+v", got, want)
			}
			for _, f := range new(Runtime).fields() {
				if f.into != nil && !strings.Contains(text.String(), "\n"+f.name+" = ") {
					t.Errorf("the example does not show %s", f.name)
				}
			}
		})
	}
}

// TestShippedRuntimes has the name of each runtime, its type, and the handler
// of its RuntimeClass go together.
func TestShippedRuntimes(t *testing.T) {
	type runtime struct {
		Type        string   `toml:"runtime_type"`
		Sandboxer   string   `toml:"sandboxer"`
		Annotations []string `toml:"pod_annotations"`
		NoDevices   bool     `toml:"privileged_without_host_devices"`
		AllDevices  bool     `toml:"privileged_without_host_devices_all_devices_allowed"`
		Options     any      `toml:"options"`
	}
	type containerd struct {
		Runtimes map[string]runtime `toml:"runtimes"`
	}
	for shim, annotations := range map[string]string{"pod": "", "gpu": "berth.dev/*", "vm": "berth.dev/*"} {
		t.Run(shim, func(t *testing.T) {
			var config struct {
				Version int `toml:"version"`
				Plugins map[string]struct {
					Containerd containerd `toml:"containerd"`
				} `toml:"plugins"`
			}
			text := read(t, "containerd-"+shim+".toml")
			if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&config); err != nil {
				t.Fatal(err)
			}
			got := config.Plugins["io.containerd.cri.v1.runtime"].Containerd.Runtimes[shim]
			if config.Version != 3 || got.Type != "io.containerd."+shim+".v2" || got.Sandboxer != "podsandbox" || strings.Join(got.Annotations, " ") != annotations || got.NoDevices != (shim == "vm") {
				t.Errorf("version %d, %+v", config.Version, got)
			}
			users := "  # runtime_type = 'io.containerd.runc.v2'\n  # runtime_path = '/usr/local/bin/containerd-shim-" + shim + "-v2'\n"
			if shim != "vm" && !strings.Contains(text, users) { // a guest gives no user namespaces
				t.Errorf("the example does not show what pods with a user namespace need:\n%s", users)
			}
			class := read(t, "runtimeclass-"+shim+".yaml")
			for _, line := range []string{"kind: RuntimeClass", "metadata:\n  name: " + shim, "handler: " + shim, "#       runtimeClassName: " + shim} {
				if !strings.Contains(class, "\n"+line+"\n") {
					t.Errorf("the RuntimeClass has no line %q", line)
				}
			}
		})
	}
}
