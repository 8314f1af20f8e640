// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"

	"berth/configs"
)

// TestSockets has a container go to the shim that its pod has, else to that of
// the node, if there is to be one.
func TestSockets(t *testing.T) {
	bundles := t.TempDir()
	for _, name := range []string{"pod", "bad", "c1"} {
		if err := os.Mkdir(filepath.Join(bundles, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	earlier := "/run/earlier/" + fmt.Sprintf("%064x", 1)
	if err := noteAddress(filepath.Join(bundles, "pod"), earlier); err != nil {
		t.Fatal(err)
	}
	if err := noteAddress(filepath.Join(bundles, "bad"), "/run/../etc/passwd"); err != nil {
		t.Fatal(err)
	}
	env := Env{RuntimeType: testRuntime, Version: "v1", Revision: "abc"}
	id := Identity{Namespace: "ns", ID: "c1", Bundle: filepath.Join(bundles, "c1"), Address: "/c.sock"}
	of := func(group string) string {
		path, err := socketPath("", id.Address, id.Namespace, group)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	node := env.nodeSocket(defaultSocketDir, id)
	for name, c := range map[string]struct {
		serves configs.Group
		group  string
		want   []string
	}{
		"a pod's first":       {configs.PerPod, "c1", []string{of("c1")}},
		"a pod's later":       {configs.PerPod, "pod", []string{earlier, of("pod")}},
		"a node's first":      {configs.PerNode, "c1", []string{of("c1"), node}},
		"a node's later":      {configs.PerNode, "pod", []string{earlier, of("pod"), node}},
		"of an unknown pod":   {configs.PerNode, "unknown", []string{of("unknown"), node}},
		"with a bad address":  {configs.PerNode, "bad", []string{of("bad"), node}},
		"of a group's a path": {configs.PerNode, "../" + filepath.Base(bundles) + "/pod", []string{of("../" + filepath.Base(bundles) + "/pod"), node}},
	} {
		got, err := env.sockets(id, bootstrap{}, c.serves, c.group)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	seen := map[string]string{node: "itself"}
	for what, other := range map[string]string{
		"another namespace": env.nodeSocket(defaultSocketDir, Identity{Namespace: "ns2", Address: id.Address}),
		"another version":   (&Env{RuntimeType: testRuntime, Version: "v2", Revision: "abc"}).nodeSocket(defaultSocketDir, id),
		"another runtime":   (&Env{RuntimeType: "io.containerd.other.v2", Version: "v1", Revision: "abc"}).nodeSocket(defaultSocketDir, id),
		"a group so named":  of("node\x00" + testRuntime + "\x00v1\x00abc"),
	} {
		if seen[other] != "" {
			t.Errorf("%s has the socket of %s", what, seen[other])
		}
		seen[other] = what
	}
}

// The shim of a node says so, and is not begun by what a single pod asks of it.
func TestStartOfNode(t *testing.T) {
	n := newNode(t)
	n.env = []string{groupVariable + "=node"}
	socket := socketOf(n.start("ns", "c1", n.bundle("")))
	if s, err := readServed(socket, testRuntime); err != nil || s.Group != configs.PerNode {
		t.Errorf("%+v, %v", s, err)
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.pid(socket)))
	if err != nil || !bytes.Contains(args, []byte("\x00-group\x00node\x00")) {
		t.Errorf("its command line is %q, %v", args, err)
	}
	n.options = &runcoptions.Options{ShimCgroup: "/some"}
	n.startFails(n.command("ns", "c2", n.bundle("")), `ShimCgroup is "/some", but one shim serves all pods`)
	n.options = nil
	n.env = append(n.env, "SCHED_CORE=1")
	n.startFails(n.command("ns", "c3", n.bundle("")), "SCHED_CORE is set, but one shim serves all pods")
}

// `delete` knows the socket that its container was served at, whatever the
// configuration says by now.
func TestFindNotedSocket(t *testing.T) {
	dir := t.TempDir()
	want := "/run/node/" + fmt.Sprintf("%064x", 7)
	if err := noteAddress(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := findSocket(Identity{Namespace: "ns", ID: "c1", Bundle: dir}); got != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// Whether a shim may end is asked while no `start` can be joining it.
func TestCloseSocketAsksUnderTheLock(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := lockSocket(socket)
	if err != nil {
		t.Fatal(err)
	}
	var joined atomic.Bool
	began, asked := make(chan struct{}), make(chan bool)
	go func() {
		close(began)
		_, _ = closeSocket(socket, func() bool { asked <- joined.Load(); return true })
	}()
	<-began
	joined.Store(true)
	l.release()
	if !<-asked {
		t.Error("it was asked before the other had done")
	}
}

// A process that ends may exit in the midst of whatever it does: a second
// Shutdown must not take the lock, whose file would stay.
func TestEndOfAnEndedServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	s := newServer(t.Context(), nil)
	if !s.end(socket, func() bool { return true }) {
		t.Fatal("it may end, and did not")
	}
	l, err := lockSocket(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	if !s.end(socket, func() bool { t.Error("asked again"); return false }) { // hangs if it takes the lock
		t.Error("it has ended, and says that it has not")
	}
}
