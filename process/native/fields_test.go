// SPDX-License-Identifier: Apache-2.0

package native

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
)

// Each field of a specification has the same effect by either driver, or is refused in the
// same words: the state on disk, what the init sees and what an exec sees. Of the
// runtime-spec no field that is Linux's is left out, but for what another test
// compares.
func TestSameFields(t *testing.T) {
	needRunc(t)
	compared := fields{}
	skipped := false
	for _, c := range fieldCases {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			defer func() { skipped = skipped || t.Skipped() }()
			look := outlook
			if c.look != "" {
				look += "; " + c.look
			}
			b := newBox(t, look+"; echo end; sleep 1000")
			for _, applet := range []string{"cut", "grep", "head", "ionice", "ip", "stty", "uname"} {
				b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin", applet)))
			}
			c.edit(b)
			if b.spec.Linux != nil && b.spec.Linux.Seccomp != nil && !seccomp.Enabled {
				t.Skip("without seccomp: this test was built without the tag")
			}
			compared.add(reflect.ValueOf(*b.spec), "")
			command, native := b.portrait(b.cli(), look, c.exec), b.portrait(b.driver, look, c.exec)
			wantSame(t, "", command, native)
			text, _ := native["create"].(string)
			if !c.mayRefuse && (text != "") != (c.refused != "") || !strings.Contains(text, c.refused) {
				t.Errorf("the create is refused with %q, want %q", text, c.refused)
			}
			for who, want := range map[string]string{"init": c.seen, "exec": cmp.Or(c.entered, c.seen)} {
				if text, _ := native[who].(string); !strings.Contains(text, want) {
					t.Errorf("the %s does not see %q: %s", who, want, text)
				}
			}
		})
	}
	if t.Failed() || skipped || !seccomp.Enabled || landHere() != nil {
		return
	}
	for _, field := range allFields(reflect.TypeFor[specs.Spec](), "") {
		if where, elsewhere := comparedElsewhere[field]; compared[field] == elsewhere {
			t.Errorf("%s: set in a case here is %v, compared elsewhere is %q", field, compared[field], where)
		}
	}
}

// comparedElsewhere are fields that the tests that are named compare.
var comparedElsewhere = map[string]string{
	"hooks.prestart.timeout":        "TestHookTimeout",
	"hooks.createRuntime.timeout":   "TestHookTimeout",
	"hooks.createContainer.timeout": "TestHookTimeout",
	"hooks.startContainer.timeout":  "TestHookTimeout",
	"hooks.poststart.timeout":       "TestHookTimeout",
	"hooks.poststop.timeout":        "TestHookTimeout",
}

// portrait is all that can be seen of a container that is made, started, entered
// and removed, or why it cannot be.
func (b *box) portrait(d driver, look string, edit func(*specs.Process)) map[string]any {
	b.Helper()
	b.write()
	seen := map[string]any{}
	said := newOutput(b.T)
	p, err := d.Create(b.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle, Streams: said, NoNewKeyring: true})
	if err != nil {
		b.nothingLeft()
		return map[string]any{"create": ownProc.ReplaceAllString(err.Error(), "/proc/N/")}
	}
	seen["state"] = b.state()
	if err := d.Start(b.Context(), b.id); err != nil {
		seen["start"] = err.Error()
	}
	b.until("the init has said all", func() bool {
		return strings.HasSuffix(said.text(), "end\n") || isOver(p)
	})
	seen["init"] = said.text()
	exec := *b.spec.Process
	exec.Args = []string{"/bin/sh", "-c", look + "; echo end"}
	if edit != nil {
		edit(&exec)
	}
	spec, err := json.Marshal(exec)
	b.must(err)
	entered := newOutput(b.T)
	e, err := d.Exec(b.Context(), &oci.ExecRequest{ID: b.id, ExecID: "e", Bundle: b.bundle, Process: spec, Streams: entered})
	if err != nil {
		seen["exec error"] = err.Error()
	} else {
		seen["status"] = b.status(e)
		seen["exec"] = entered.text()
	}
	if isOver(p) { // before it has said all
		seen["init status"] = b.status(p)
	} else {
		b.kill(p)
	}
	b.must(d.Delete(b.Context(), b.id, false))
	b.nothingLeft()
	return seen
}

// ownProc is what a message has of the moment.
var ownProc = regexp.MustCompile(`/proc/\d+/`)

func isOver(p *process.Process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// state is what is on disk, without what differs between any two containers.
func (b *box) state() map[string]any {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.driver.Root, b.id, "state.json"))
	b.must(err)
	var state map[string]any
	b.must(json.Unmarshal(data, &state))
	for _, own := range []string{"init_process_pid", "init_process_start", "created", "namespace_paths"} {
		if _, ok := state[own]; !ok {
			b.Errorf("state.json has no %s", own)
		}
		delete(state, own)
	}
	state["external_descriptors"] = len(state["external_descriptors"].([]any)) // the files are new each time
	return state
}

// A network device goes into the container, under its new name and with its addresses;
// or, by a kernel that lacks what runc moves it with, into none.
func TestNetDevice(t *testing.T) {
	needRunc(t)
	if l := landHere(); l == nil || !l.network {
		t.Skip("the network is everybody's here")
	}
	const look = "ip -o -4 addr show dev inside | cut -d : -f 2-"
	b := newBox(t, look+"; echo end; sleep 1000")
	b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin/ip")))
	b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin/cut")))
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"outside": {Name: "inside"}}
	var seen []map[string]any
	for _, d := range []driver{b.cli(), b.driver} {
		// With the container's network the device is removed.
		if out, err := b.host("/", "ip link add outside type veth peer name peer && ip addr add 10.1.2.3/24 dev outside && ip link set outside up"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		seen = append(seen, b.portrait(d, look, nil))
		b.until("the device is removed", func() bool { _, err := b.host("/", "ip link show dev peer"); return err != nil })
	}
	wantSame(t, "", seen[0], seen[1])
	refused, _ := seen[1]["create"].(string)
	if lacks := netlinkLacks(); lacks != nil {
		if !strings.Contains(refused, "netDevice") || !strings.HasSuffix(refused, lacks.Error()) {
			t.Errorf("the create is refused with %q, want %q", refused, lacks)
		}
		return
	}
	if text, _ := seen[1]["exec"].(string); !strings.Contains(text, "10.1.2.3/24") {
		t.Errorf("the container has %q; create: %q", text, refused)
	}
}

// netlinkLacks is the kernel's word for a family of netlink that it does not have, of
// those of which runc opens a socket each before it moves a device. Only routing is
// built into every kernel; the others may be modules.
func netlinkLacks() error {
	for _, family := range []int{unix.NETLINK_ROUTE, unix.NETLINK_XFRM, unix.NETLINK_NETFILTER} {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
		if err != nil {
			return err
		}
		_ = unix.Close(fd)
	}
	return nil
}
