// SPDX-License-Identifier: Apache-2.0

package native

import (
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/apparmor"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
)

// Where the kernel runs without a security module, what asks for its profile or
// label is refused, in runc's words: it does not run without.
func TestSecurityModuleMissing(t *testing.T) {
	for _, c := range []struct {
		name string
		has  bool
		edit func(*specs.Process)
		says string
	}{
		{"AppArmor", apparmor.IsEnabled(), func(p *specs.Process) { p.ApparmorProfile = "berth-test" }, "apparmor"},
		{"SELinux", selinux.GetEnabled(), func(p *specs.Process) { p.SelinuxLabel = processLabel }, "selinux is disabled or not supported"},
	} {
		if c.has {
			continue
		}
		t.Run(c.name+"-init", func(t *testing.T) {
			b := newTeller(t, "echo runs")
			c.edit(b.spec.Process)
			if got := b.tell(b.teller("true", nil), nil); !strings.Contains(got.err, c.says) || got.init != "" {
				t.Errorf("it tells %+v, want an error with %q", got, c.says)
			}
		})
		t.Run(c.name+"-exec", func(t *testing.T) {
			b := newTeller(t, "echo runs")
			if got := b.tell(b.teller("echo runs", c.edit), nil); !strings.Contains(got.err, c.says) || got.exec != "" {
				t.Errorf("it tells %+v, want an error with %q", got, c.says)
			}
		})
	}
}
