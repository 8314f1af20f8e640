// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// underSystemd has systemd make the cgroups of all containers here: on a machine
// of which it is PID 1.
var underSystemd = os.Getenv("BERTH_SYSTEMD") != ""

// slice is one in another one, so that a path has more than a directory.
const slice = "berth-native.slice"

// cgroupsPath is where the specification of a container wants its cgroup.
func (b *box) cgroupsPath() string {
	if underSystemd {
		return slice + ":nat:" + b.id
	}
	return "/" + b.cgroup()
}

func (b *box) scope() string { return "nat-" + b.id + ".scope" }

// cgroups are patterns of where its cgroups are.
func (b *box) cgroups() []string {
	if underSystemd {
		return []string{"/sys/fs/cgroup/berth.slice/" + slice + "/" + b.scope()}
	}
	return []string{"/sys/fs/cgroup/" + b.cgroup(), "/sys/fs/cgroup/*/" + b.cgroup()}
}

func (b *box) systemctl(args ...string) string {
	b.Helper()
	hold := b.sup.Spare() // os/exec waits by itself
	defer hold.Release()
	out, err := exec.Command("systemctl", args...).CombinedOutput()
	if err != nil {
		b.Fatalf("systemctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// ofTheMoment are properties of a unit that any two differ in.
var ofTheMoment = []string{
	"ActiveEnterTimestamp", "ActiveExitTimestamp", "InactiveEnterTimestamp", "InactiveExitTimestamp", "StateChangeTimestamp",
	"ConditionTimestamp", "AssertTimestamp", "ConditionTimestampMonotonic", "InvocationID", "CPUUsageNSec", "MemoryCurrent",
	"MemoryAvailable", "TasksCurrent", "ControlGroupId", "Transient",
}

// unit is what systemd says of a container's scope: all of its properties.
func (b *box) unit() map[string]any {
	if !underSystemd {
		return nil
	}
	b.Helper()
	return b.properties(b.scope())
}

// properties are those of a unit, but for the ones of the moment.
func (b *box) properties(unit string) map[string]any {
	b.Helper()
	all := map[string]any{}
	for line := range strings.Lines(b.systemctl("show", "--all", "--", unit)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		words := strings.Fields(value) // lists, and properties of more than a line, have no order
		if more, ok := all[name]; ok {
			words = append(words, strings.Fields(more.(string))...)
		}
		slices.Sort(words)
		all[name] = strings.Join(words, " ")
	}
	for _, name := range ofTheMoment {
		delete(all, name)
		delete(all, name+"Monotonic")
	}
	if all["LoadState"] != "loaded" || len(all) < 50 {
		b.Errorf("systemd says of %s: %v", unit, all)
	}
	return all
}

// noUnit checks that systemd has forgotten the container's scope.
func (b *box) noUnit() {
	if !underSystemd {
		return
	}
	b.Helper()
	b.wantNoUnit(b.scope())
}

func (b *box) wantNoUnit(pattern string) {
	b.Helper()
	if out := b.systemctl("list-units", "--all", "--full", "--plain", "--no-legend", "--", pattern); out != "" {
		b.Errorf("a unit is left: %s", out)
	}
}

func needSystemd(t *testing.T) {
	t.Helper()
	if !underSystemd {
		t.Skip("BERTH_SYSTEMD does not say that systemd is PID 1")
	}
	needRunc(t)
}
