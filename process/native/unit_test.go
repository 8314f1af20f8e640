// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process/cgroup"
	"berth/process/oci"
)

// A container's unit is the same, in all of its properties, by whichever driver it
// was made, and lies where the cgroup is looked for by those who have no process to
// ask; none is left.
func TestSameUnit(t *testing.T) {
	needSystemd(t)
	for name, path := range map[string]string{
		"nested slice": "berth-native.slice:nat:ID", "default slice": ":nat:ID", "another slice": "user.slice:cri-containerd:ID",
		"no prefix": "system.slice::ID", "root slice": "-.slice:nat:ID", "unit is a slice": "berth.slice:nat:berth-ID.slice", "none": "",
		"not of systemd": "/berth/ID", "no such slice": "berth:nat:ID", "double dash": "berth--native.slice:nat:ID",
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBox(t, "sleep 1000")
			fill(b.spec)
			b.spec.Hooks, b.spec.Linux.Seccomp = nil, nil
			b.spec.Linux.CgroupsPath = strings.ReplaceAll(path, "ID", strings.ReplaceAll(b.id, "-", "_"))
			b.write()
			native, command := b.seenUnder(b.driver), b.seenUnder(b.cli())
			wantSame(t, "", command, native)
			t.Log(native["cgroup"], native["error"])
		})
	}
}

// pids is what systemd quotes of a request.
var pids = regexp.MustCompile(`\[\d+\]`)

// seenUnder is what is to be seen of a container of a driver.
func (b *box) seenUnder(d driver) map[string]any {
	b.Helper()
	p, err := d.Create(b.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
	if err != nil {
		b.wantNoUnit("*" + b.id + "*")
		return map[string]any{"error": pids.ReplaceAllString(err.Error(), "[PID]")}
	}
	b.must(d.Start(b.Context(), b.id))
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.Pid()))
	b.must(err)
	where := strings.TrimPrefix(strings.TrimSpace(string(data)), "0::")
	path := b.spec.Linux.CgroupsPath
	if path == "" {
		path = ":runc:" + b.id
	}
	if place, err := cgroup.Place(path); err != nil || place.Dirs[cgroup.Unified].Path != "/sys/fs/cgroup"+where {
		b.Errorf("a container's cgroup is %s, and is looked for in %v, %v", where, place, err)
	}
	unit := filepath.Base(where)
	seen := map[string]any{"cgroup": where, "unit": b.properties(unit)}
	b.kill(p)
	b.must(d.Delete(b.Context(), b.id, false))
	b.wantNoUnit(unit)
	if _, err := os.Stat("/sys/fs/cgroup" + where); err == nil {
		b.Errorf("the cgroup %s is left", where)
	}
	return seen
}

// Between calls a program has no connection to the bus, which allows each user so
// many, and is woken by none.
func TestNoBusIsKept(t *testing.T) {
	needSystemd(t)
	b := newBox(t, "sleep 1000")
	p := b.run(nil)
	noBus := func() bool { return busConnections(t) == 0 }
	b.until("a create has closed its connections to the bus", noBus)
	e, err := b.exec(shell("true"), nil)
	b.must(err)
	b.status(e)
	b.until("an exec has", noBus)
	b.must(b.driver.Update(t.Context(), b.id, []byte(`{"pids":{"limit":55}}`)))
	b.until("an update has", noBus)
	b.kill(p)
	b.must(b.driver.Delete(t.Context(), b.id, false))
	b.until("a delete has", noBus)
}

// busConnections counts this program's connections over unix sockets.
func busConnections(t *testing.T) (n int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if what, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(what, "socket:") {
			n++
		}
	}
	return n
}

// systemd reads its configuration anew, or begins anew, and the bus with it:
// containers keep their limits and their devices, and calls find both again.
func TestManagerBeginsAnew(t *testing.T) {
	needSystemd(t)
	for name, renew := range map[string][]string{
		"reload": {"daemon-reload"}, "re-execution": {"daemon-reexec"}, "bus": {"restart", "dbus.service"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "sleep 1000")
			fill(b.spec)
			b.spec.Hooks, b.spec.Linux.Seccomp, b.spec.Process.User = nil, nil, specs.User{}
			b.addDevices()
			p := b.run(nil)
			before := b.resources()
			b.wantDevices()
			b.systemctl(renew...)
			after := b.resources()
			for _, unit := range []any{before["unit"], after["unit"]} {
				delete(unit.(map[string]any), "NeedDaemonReload")
			}
			wantSame(t, "", before, after)
			b.wantDevices()
			b.must(b.driver.Update(t.Context(), b.id, []byte(`{"pids":{"limit":55}}`)))
			if unit := b.unit(); unit["TasksMax"] != "55" {
				t.Errorf("an update afterwards: TasksMax is %s", unit["TasksMax"])
			}
			b.wantDevices()
			b.systemctl(renew...)
			b.wantDevices()
			b.kill(p)
			b.must(b.driver.Delete(t.Context(), b.id, false))
			b.nothingLeft()
		})
	}
}

// addDevices gives a container two devices of which there is none, and leave for one.
func (b *box) addDevices() {
	major, granted, refused := int64(250), int64(7), int64(8)
	b.spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/granted", Type: "c", Major: major, Minor: granted}, {Path: "/dev/refused", Type: "c", Major: major, Minor: refused},
	}
	r := b.spec.Linux.Resources
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &granted, Access: "rwm"})
}

// wantDevices checks what the kernel says to an open: ENXIO, or EPERM of the cgroup.
func (b *box) wantDevices() {
	b.Helper()
	out := newOutput(b.T)
	e, err := b.exec(shell("for d in granted refused null; do (: </dev/$d) 2>&1; done; echo done"), out)
	b.must(err)
	b.status(e)
	const want = "/bin/sh: can't open /dev/granted: No such device or address\n/bin/sh: can't open /dev/refused: Operation not permitted\ndone\n"
	if got := out.text(); got != want {
		b.Errorf("opened devices: %s", got)
	}
}
