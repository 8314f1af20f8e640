// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/hooks"
	"berth/test/fakedriver"
)

// bundle makes one with an empty root file system.
func bundle(t testing.TB, spec *specs.Spec) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(raw))
	return dir
}

// create does what the shim does with its hooks before the runtime's turn.
func create(t *testing.T, h *Hook, bundle, id string) error {
	t.Helper()
	spec, err := hooks.LoadSpec(bundle, id)
	if err != nil {
		t.Fatal(err)
	}
	chain := hooks.Chain{h}
	if err := chain.Create(t.Context(), spec); err != nil {
		return err
	}
	return chain.Mounted(t.Context(), spec)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestHookLeavesOthersAlone(t *testing.T) {
	h := &Hook{Planner: Planner{Roots: Roots{Run: t.TempDir(), Proc: "/none"}, Policy: Policy{EnvPlain: []string{"NVIDIA_VISIBLE_DEVICES"}}}, Namespace: "ns"}
	for name, edit := range map[string]func(*specs.Spec){
		"nothing": func(s *specs.Spec) { s.Process.Env, s.Annotations = nil, nil },
		"void":    func(s *specs.Spec) { s.Process.Env, s.Annotations = []string{"NVIDIA_VISIBLE_DEVICES=void"}, nil },
		"pod":     func(s *specs.Spec) { s.Annotations = map[string]string{criContainerType: "container"} },
		"sandbox": func(s *specs.Spec) { s.Annotations[criContainerType] = "sandbox" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := bundle(t, changed(container("1"), edit))
			before := read(t, filepath.Join(dir, "config.json"))
			if err := create(t, h, dir, "c"); err != nil {
				t.Fatal(err)
			}
			if read(t, filepath.Join(dir, "config.json")) != before {
				t.Error("the spec was changed")
			}
			for _, d := range []string{filepath.Join(dir, "rootfs"), h.Roots.Run} {
				if entries, _ := os.ReadDir(d); len(entries) > 0 {
					t.Errorf("%s has %v in it", d, entries)
				}
			}
			if err := h.Delete(t.Context(), "c"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHookLife(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	dir := bundle(t, container("1"))
	before := read(t, filepath.Join(dir, "config.json"))
	if err := create(t, h, dir, "c"); err != nil {
		t.Fatal(err)
	}
	if config := read(t, filepath.Join(dir, "config.json")); !strings.Contains(config, `"/`+d.GPUs[0].Node()+`"`) {
		t.Errorf("config.json has no node: %s", config)
	}
	if read(t, filepath.Join(dir, BeforeFile)) != before {
		t.Error("the spec as it was is not kept")
	}
	trees, _ := filepath.Glob(filepath.Join(r.Run, "gpu/trees/*"))
	if len(trees) != 1 || !strings.Contains(read(t, filepath.Join(dir, "config.json")), trees[0]) {
		t.Fatalf("trees %q: none, or not mounted", trees)
	}
	link, err := os.Readlink(filepath.Join(trees[0], "lib64/libcuda.so.1"))
	if err != nil || link != "libcuda.so."+d.Version {
		t.Errorf("link %q, %v", link, err)
	}
	info, err := os.Stat(filepath.Join(trees[0], "lib64", link))
	if err != nil || info.Size() != 0 || info.Mode() != 0o444 {
		t.Errorf("mount point %v, %v", info, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "rootfs")); len(entries) > 0 {
		t.Errorf("the root file system, which has no loader, got %v", entries)
	}
	claim, err := r.Claim("ns", "c")
	if err != nil || claim.Bundle != dir || len(claim.Devices) != 1 || claim.Devices[0].UUID != d.GPUs[0].UUID {
		t.Errorf("claim %+v, %v", claim, err)
	}
	if !slices.ContainsFunc(claim.Entries, func(e Entry) bool { return e.Kind == "loader" && strings.Contains(e.Path, "no dynamic loader") }) {
		t.Errorf("what was found about the loader is not on record: %+v", claim.Entries)
	}
	status, err := h.Status(t.Context())
	if err != nil || len(status.Devices) != 2 || !slices.Equal(status.Devices[0].HeldBy, []string{"ns/c"}) || status.Devices[1].HeldBy != nil {
		t.Errorf("status %+v, %v", status, err)
	}
	if err := os.Rename(dir, dir+"~"); err != nil { // containerd has removed it, and nobody deleted
		t.Fatal(err)
	}
	if claims, err := r.Claims(); err != nil || len(claims) > 0 {
		t.Errorf("claims of a container that is gone: %+v, %v", claims, err)
	}
	if err := os.Rename(dir+"~", dir); err != nil {
		t.Fatal(err)
	}
	fresh := &Hook{Planner: h.Planner, Namespace: "ns"} // as `shim delete` has it
	for range 2 {
		if err := fresh.Delete(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Claim("ns", "c"); !errdefs.IsNotFound(err) {
		t.Errorf("the claim is left: %v", err)
	}
}

// TestHookFails has nothing left of a create that was refused.
func TestHookFails(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 1})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	dir := bundle(t, container("index:7"))
	before := read(t, filepath.Join(dir, "config.json"))
	if err := create(t, h, dir, "c"); !errdefs.IsNotFound(err) {
		t.Errorf("error %v", err)
	}
	claims, err := r.Claims()
	entries, _ := os.ReadDir(dir)
	if err != nil || len(claims) > 0 || len(entries) != 2 || read(t, filepath.Join(dir, "config.json")) != before {
		t.Errorf("left: claims %v (%v), bundle %v", claims, err, entries)
	}
}

// TestHookClaimIsBounded has an environment of 1 MB go into the container, and
// not into what is kept and shown of it.
func TestHookClaimIsBounded(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 1})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	path := "/\x1b[2J:" + strings.Repeat("/x:", 1<<20)
	hide := func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Source: "/none", Destination: "/etc", Type: "bind"})
		s.Process.Env = []string{"LD_LIBRARY_PATH=" + path}
	}
	dir := bundle(t, changed(container("1"), hide))
	write(t, filepath.Join(dir, "rootfs/etc/ld.so.conf"), "")
	if err := create(t, h, dir, "c"); err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, "config.json"))), &spec); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(spec.Process.Env, "LD_LIBRARY_PATH=/usr/local/nvidia/lib64:"+path) {
		t.Error("the container's environment is not what it was, and the driver's directory")
	}
	claim, err := r.Claim("ns", "c")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range claim.Entries {
		if len(e.Path) > 2048 || strings.Contains(e.Path, "\x1b") {
			t.Errorf("an entry of %d bytes: %.80q", len(e.Path), e.Path)
		}
	}
	noProcess := bundle(t, changed(container("1"), func(s *specs.Spec) { hide(s); s.Process = nil }))
	if err := create(t, h, noProcess, "d"); err != nil { // the runtime refuses it
		t.Error(err)
	}
}

// TestHookBroken has a configuration that is not right: told to those who ask.
func TestHookBroken(t *testing.T) {
	broken := errdefs.ErrInvalidArgument
	h := &Hook{Broken: broken, Namespace: "ns", Planner: Planner{Roots: Roots{Run: t.TempDir()}}}
	if err := create(t, h, bundle(t, container("1")), "c"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
	if err := create(t, h, bundle(t, changed(container(""), func(s *specs.Spec) { s.Annotations = nil })), "c"); err != nil {
		t.Errorf("a container that asks for nothing: %v", err)
	}
}

func TestHookUpdate(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	dir, plain := bundle(t, container("1")), bundle(t, changed(container(""), func(s *specs.Spec) { s.Annotations = nil }))
	for id, b := range map[string]string{"c": dir, "p": plain} {
		if err := create(t, h, b, id); err != nil {
			t.Fatal(err)
		}
	}
	const limits = `{"memory":{"limit":1},"x-future":18446744073709551615}`
	const all = `{"devices":[{"allow":false,"access":"rwm"}],"x-future":18446744073709551615}`
	for name, c := range map[string]struct{ bundle, in string }{
		"no devices":        {dir, limits},
		"an empty list":     {dir, `{"devices":[]}`},
		"a wrong list":      {dir, `{"devices":3}`},
		"another container": {plain, all},
	} {
		if got, err := h.Update(t.Context(), c.bundle, []byte(c.in)); err != nil || string(got) != c.in {
			t.Errorf("%s: got %s, %v; want no change", name, got, err)
		}
	}
	got, err := h.Update(t.Context(), dir, []byte(all))
	if err != nil {
		t.Fatal(err)
	}
	var res specs.LinuxResources
	if err := json.Unmarshal(got, &res); err != nil {
		t.Fatal(err)
	}
	found := slices.ContainsFunc(res.Devices, func(c specs.LinuxDeviceCgroup) bool {
		return c.Allow && *c.Major == 195 && *c.Minor == int64(d.GPUs[0].Minor) && c.Access == "rwm"
	})
	if len(res.Devices) != 5 || res.Devices[0].Allow || !found || !strings.Contains(string(got), "18446744073709551615") {
		t.Errorf("updated to %s", got)
	}
	if _, err := h.Update(t.Context(), dir, []byte("{")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no JSON: %v", err)
	}
}

// TestHookUpdateOf has the devices be given in other ways, and taken away in
// the new list after they were given.
func TestHookUpdateOf(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	number := int64(d.GPUs[0].Minor)
	nvidia, other := int64(195), int64(1)
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &nvidia, Minor: &number, Access: "rwm"}
	null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &other, Minor: &other, Access: "rwm"}
	for name, edit := range map[string]func(*specs.Spec){
		"a user namespace": func(s *specs.Spec) { // nodes are bound
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace}}
		},
		"CDI": func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/" + d.GPUs[0].Node(), Type: "c", Major: nvidia, Minor: number}}
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, null, rule)
			s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{cdiHookOf("update-ldcache", "--folder", "/l")}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
			dir := bundle(t, changed(container("1"), edit))
			if err := create(t, h, dir, "c"); err != nil {
				t.Fatal(err)
			}
			in, err := json.Marshal(specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule, {Access: "rwm"}}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := h.Update(t.Context(), dir, in)
			if err != nil {
				t.Fatal(err)
			}
			var res specs.LinuxResources
			if err := json.Unmarshal(got, &res); err != nil {
				t.Fatal(err)
			}
			is := func(want specs.LinuxDeviceCgroup) func(specs.LinuxDeviceCgroup) bool {
				return func(c specs.LinuxDeviceCgroup) bool { return reflect.DeepEqual(c, want) }
			}
			if len(res.Devices) < 3 || !slices.ContainsFunc(res.Devices[2:], is(rule)) || slices.ContainsFunc(res.Devices, is(null)) {
				t.Errorf("updated to %s", got)
			}
		})
	}
}

func TestClaimNames(t *testing.T) {
	r := Roots{Run: t.TempDir()}
	for _, c := range [][2]string{{"", "c"}, {"n", ""}, {"..", "c"}, {"n", "../c"}, {"n:m", "c"}, {"n", "a/b"}, {"n", "a\nb"}} {
		if err := r.writeClaim(&Claim{Namespace: c[0], ID: c[1]}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", c, err)
		}
		if err := r.removeClaim(c[0], c[1]); err != nil {
			t.Errorf("%q: %v", c, err)
		}
	}
	// A name of one that holds cannot be made of another's.
	for _, c := range [][2]string{{"a", "b-c"}, {"a-b", "c"}} {
		if err := r.writeClaim(&Claim{Namespace: c[0], ID: c[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.removeClaim("a", "b-c"); err != nil {
		t.Fatal(err)
	}
	if claims, err := r.Claims(); err != nil || len(claims) != 1 || claims[0].ID != "c" {
		t.Errorf("claims %+v, %v", claims, err)
	}
}

// podStub records what a hook asks of it.
type podStub struct {
	pids   map[string]int
	notes  []string
	told   []hooks.Event
	killed []string
	done   chan struct{} // an event was told
}

func (p *podStub) Has(id string, pid int) bool { return p.pids[id] == pid }
func (p *podStub) Note(id, text string)        { p.notes = append(p.notes, id+" "+text) }
func (p *podStub) Kill(_ context.Context, id string) error {
	p.killed = append(p.killed, id)
	return nil
}
func (p *podStub) Tell(id string, e hooks.Event) { p.told = append(p.told, e); p.done <- struct{}{} }

func TestHookXids(t *testing.T) {
	h := &Hook{Planner: Planner{Roots: Roots{Run: t.TempDir(), Proc: "/proc", Sys: "/sys"}}, Xids: XidPolicy{Kill: []string{"app", "reset"}, Ignore: []string{"63"}}}
	const bus, other = "0000:3b:00.0", "0000:5d:00.0"
	h.hold(&Claim{ID: "a", Devices: []Holding{{BusID: bus, UUID: "GPU-1"}}})
	h.hold(&Claim{ID: "b", Devices: []Holding{{BusID: bus, UUID: "GPU-1"}}})
	h.hold(&Claim{ID: "m", Devices: []Holding{{BusID: other, MIG: &Instance{GI: 9}}}})
	for name, c := range map[string]struct {
		x             Xid
		noted, killed []string
	}{
		"by pid":                {Xid{BusID: bus, Number: 31, Pid: 7, GI: -1, CI: -1}, []string{"b"}, []string{"b"}},
		"of nobody known":       {Xid{BusID: bus, Number: 31, Pid: 8, GI: -1, CI: -1}, []string{"a", "b"}, nil},
		"of the whole GPU":      {Xid{BusID: bus, Number: 119, GI: -1, CI: -1}, []string{"a", "b"}, []string{"a", "b"}},
		"of a MIG device":       {Xid{BusID: other, Number: 31, GI: 9, CI: 0}, []string{"m"}, []string{"m"}},
		"of another MIG device": {Xid{BusID: other, Number: 31, GI: 11, CI: 0}, nil, nil},
		"of a GPU nobody holds": {Xid{BusID: "0000:99:00.0", Number: 79, GI: -1, CI: -1}, nil, nil},
		"one that is ignored":   {Xid{BusID: bus, Number: 63, GI: -1, CI: -1}, nil, nil},
		"one without a sequel":  {Xid{BusID: bus, Number: 79, GI: -1, CI: -1}, []string{"a", "b"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := &podStub{pids: map[string]int{"b": 7}, done: make(chan struct{}, 1)}
			h.xid(t.Context(), p, c.x)
			var noted []string
			for _, n := range p.notes {
				id, _, _ := strings.Cut(n, " ")
				noted = append(noted, id)
			}
			slices.Sort(noted)
			slices.Sort(p.killed)
			if !slices.Equal(noted, c.noted) || !slices.Equal(p.killed, c.killed) || len(p.told) != min(1, len(c.noted)) {
				t.Errorf("noted %q, killed %q, %d events", noted, p.killed, len(p.told))
			}
		})
	}
}

// TestHookXidsOfOthers has two shims that share a GPU see the same Xids: one of
// a process is that of its container, and not of the other's.
func TestHookXidsOfOthers(t *testing.T) {
	const bus = "0000:3b:00.0"
	r := Roots{Run: t.TempDir(), Proc: t.TempDir(), Sys: "/sys"}
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	for _, id := range []string{"ours", "theirs", "4be0c1"} {
		c := &Claim{Namespace: "ns", ID: id, Devices: []Holding{{BusID: bus}}}
		if err := r.writeClaim(c); err != nil {
			t.Fatal(err)
		}
		if id == "ours" {
			h.hold(c)
		}
	}
	for pid, cgroups := range map[string]string{
		"7": "8:memory:/ns/theirs\n0::/\n", "8": "0::/kubepods.slice/cri-containerd-4be0c1.scope/init\n", "9": "0::/system.slice/mps.service\n",
		"10": "0::/ns/not-theirs\n", "11": "0::/ns/ours/below\n",
	} {
		write(t, r.proc(pid, "cgroup"), cgroups)
	}
	for name, c := range map[string]struct {
		number, pid int
		ours        bool
	}{
		"theirs": {31, 7, false}, "theirs under systemd": {31, 8, false}, "nobody's": {31, 9, true}, "a longer name": {31, 10, true},
		"of ours, that has ended": {31, 11, true}, "gone": {31, 12, true}, "no process": {31, 0, true}, "theirs, but all are hit": {119, 7, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &podStub{done: make(chan struct{}, 1)}
			h.xid(t.Context(), p, Xid{BusID: bus, Number: c.number, Pid: c.pid, GI: -1, CI: -1})
			if len(p.notes) != boolInt(c.ours) || len(p.told) != boolInt(c.ours) {
				t.Errorf("noted %q, %d events", p.notes, len(p.told))
			}
		})
	}
}

// TestHookServe reads a log from the first holder on.
func TestHookServe(t *testing.T) {
	log, feed := kmsgFIFO(t)
	h := &Hook{Kmsg: log, Planner: Planner{Roots: Roots{Run: t.TempDir()}}}
	p := &podStub{done: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { h.Serve(ctx, p); close(over) }()
	h.hold(&Claim{ID: "none"}) // holds nothing
	h.hold(&Claim{ID: "a", Devices: []Holding{{BusID: "0000:3b:00.0", UUID: "GPU-1"}}})
	if _, err := feed.WriteString("3,100,1000,-;NVRM: Xid (PCI:0000:3b:00): 13, pid=5, name=x, Graphics Exception\n"); err != nil {
		t.Fatal(err)
	}
	<-p.done
	cancel()
	<-over
	if len(p.told) != 1 || p.told[0].Topic != XidTopic || !strings.Contains(string(p.told[0].Value), "GPU-1") {
		t.Errorf("told %+v", p.told)
	}
	idle := &Hook{Kmsg: log}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	idle.Serve(ctx, p) // returns though nobody ever held anything
}
