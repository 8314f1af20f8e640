// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/apparmor"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Two profiles that forbid a file each, and mounts, by not allowing them.
const (
	confined = "berth-test-confined"
	other    = "berth-test-other"
	rules    = " flags=(attach_disconnected) { file, capability, network, signal, ptrace, deny /"
	profiles = "profile " + confined + rules + "confined w, }\nprofile " + other + rules + "other w, }\n"
)

// loadProfiles has the kernel know the profiles until the test has ended. It
// runs a program: before there is a supervisor, and after.
func loadProfiles(t *testing.T) {
	t.Helper()
	parser, err := exec.LookPath("apparmor_parser")
	if !apparmor.IsEnabled() {
		skipWithout(t, "apparmor", "this kernel runs without AppArmor")
	}
	if err != nil {
		skipWithout(t, "apparmor", "no apparmor_parser: "+err.Error())
	}
	load := func(what string) {
		cmd := exec.Command(parser, "--skip-cache", what)
		cmd.Stdin = strings.NewReader(profiles)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v, %s", cmd, err, out)
		}
	}
	load("--replace")
	t.Cleanup(func() { load("--remove") })
}

// trespass prints the profile that a process is under, and what it could do.
const trespass = `cat /truth/self/attr/current
	for name in confined other; do (echo > /$name) 2>/dev/null && echo "writes $name"; done
	mount -t tmpfs none /mnt 2>/dev/null && echo mounts`

// What trespass prints under each profile.
const (
	underNone     = "unconfined\nwrites confined\nwrites other\nmounts\n"
	underConfined = confined + " (enforce)\nwrites other\n"
	underOther    = other + " (enforce)\nwrites confined\n"
)

// Processes are under the profile that is asked for each of them, and cannot do
// what it forbids.
func TestAppArmor(t *testing.T) {
	loadProfiles(t)
	for _, c := range []struct {
		name               string
		init, exec         string // profiles
		edit               func(*box)
		wantInit, wantExec string
	}{
		{"none", "", "", nil, underNone, underNone},
		{"a profile", confined, confined, nil, underConfined, underConfined},
		{"an exec that names none", confined, "", nil, underConfined, underNone}, // as runc has it, unlike a label of SELinux
		{"an exec with its own", confined, other, nil, underConfined, underOther},
		{"an exec alone", "", other, nil, underNone, underOther},
		{"unconfined", "unconfined", confined, nil, underNone, underConfined},
		{"an exec unconfined", confined, "unconfined", nil, underConfined, underNone},
		{"no new privileges", confined, other, noNewPrivileges, underConfined, underOther},
		{"user namespace", confined, other, inUserNamespace, underConfined, underOther},
		{"an image with its own proc", confined, other, (*box).fakeProc, underConfined, underOther},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			b := newTeller(t, trespass)
			for _, name := range []string{"confined", "other"} {
				file := filepath.Join(b.rootfs, name)
				b.must(os.WriteFile(file, nil, 0o666))
				b.must(os.Chmod(file, 0o666)) // also for a root that is another user here
			}
			if c.edit != nil {
				c.edit(b)
			}
			exec := b.teller(trespass, func(p *specs.Process) { p.ApparmorProfile = c.exec })
			b.spec.Process.ApparmorProfile = c.init
			if got, want := b.tell(exec, nil), (told{init: c.wantInit, exec: c.wantExec}); got != want {
				t.Errorf("it tells\n%+v, want\n%+v", got, want)
			}
		})
	}
}

// A profile that nobody has loaded is refused, in runc's words: nothing runs
// without it.
func TestAppArmorProfileMissing(t *testing.T) {
	loadProfiles(t)
	const missing, says = "berth-test-missing", "apparmor failed to apply profile"
	t.Run("init", func(t *testing.T) {
		b := newTeller(t, "echo runs")
		b.spec.Process.ApparmorProfile = missing
		if got := b.tell(b.teller("true", nil), nil); !strings.Contains(got.err, says) || got.init != "" {
			t.Errorf("it tells %+v, want an error with %q", got, says)
		}
	})
	t.Run("exec", func(t *testing.T) {
		b := newTeller(t, "echo runs")
		exec := b.teller("echo runs", func(p *specs.Process) { p.ApparmorProfile = missing })
		if got := b.tell(exec, nil); !strings.Contains(got.err, says) || got.init != "runs\n" || got.exec != "" {
			t.Errorf("it tells %+v, want an error with %q", got, says)
		}
	})
}
