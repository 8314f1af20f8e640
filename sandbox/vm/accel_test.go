// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A note that KVM was slow is believed by who has something else to go on to, and
// by nobody else.
func TestChooseBelievesANote(t *testing.T) {
	memo := filepath.Join(t.TempDir(), "slow")
	if err := os.WriteFile(memo, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		may      []Accel
		believed bool
	}{
		"something else": {[]Accel{KVM, "another"}, true},
		"nothing else":   {[]Accel{KVM}, false},
	} {
		_, err := Choose(t.Context(), c.may, memo)
		if believed := err != nil && strings.Contains(err.Error(), "ago"); believed != c.believed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, err := Choose(t.Context(), []Accel{KVM, TCG}, memo); a != TCG {
		t.Errorf("with emulation allowed: %q, %v", a, err)
	}
}
