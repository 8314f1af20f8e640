// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"os"
	"strings"
	"testing"
)

// TestShippedOptions has the example show every option, under names that are
// understood, with values of the right type.
func TestShippedOptions(t *testing.T) {
	data, err := os.ReadFile("containerd-pod.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, options, ok := strings.Cut(string(data), ".pod.options]\n")
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
}
