// SPDX-License-Identifier: Apache-2.0

package fakenvml

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who has a node open is a client of what the node is of, and of nothing else.
func TestInUseByNode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root is missing: mknod(2)")
	}
	for _, c := range []struct {
		name string
		node func(s State) (major, minor int)
		want []string // of rmci=1/0, rmgi=1, mode=0
	}{
		{"the GPU's", func(s State) (int, int) { return s.Nodes.GPUs, s.GPUs[0].Minor }, []string{"0", "0", "0 status " + inUse}},
		{"another GPU's", func(s State) (int, int) { return s.Nodes.GPUs, s.GPUs[1].Minor }, []string{"0", "0", "0 status 0"}},
		{"the GPU instance's", func(s State) (int, int) { return s.Nodes.Caps, access(s, 1) }, []string{"0", inUse, "0 status " + inUse}},
		{"the compute instance's", func(s State) (int, int) { return s.Nodes.Caps, access(s, 1) + 1 }, []string{inUse, inUse, "0 status " + inUse}},
		{"another instance's", func(s State) (int, int) { return s.Nodes.Caps, access(s, 2) }, []string{"0", "0", "0 status " + inUse}},
		{"another GPU's instance's", func(s State) (int, int) { return s.Nodes.Caps, access(s, 1) - 9*15 }, []string{"0", "0", "0 status 0"}},
		{"one of another driver", func(s State) (int, int) { return s.Nodes.Caps + 1, access(s, 1) }, []string{"0", "0", "0 status 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := machine(H200)
			s.GPUs = append(s.GPUs, Machine(H200, 2).GPUs[1])
			s.GPUs[0].Minor = 1
			s.GPUs[0].Instances = []Instance{{ID: 1, Profile: 9, Compute: []Compute{{Profile: 2, UUID: "MIG-x"}}}}
			// Other tests on this machine may have the real numbers open.
			s.Nodes = Majors{GPUs: 384 + rand.IntN(60), Caps: 446 + rand.IntN(60)}
			path, node := stateFile(t, s), filepath.Join(t.TempDir(), "node")
			major, minor := c.node(s)
			if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.Open(node, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := run(t, path, "rmci=1/0", "rmgi=1", "mode=0"); !reflect.DeepEqual(got, c.want) {
				t.Errorf("while it is open %q, want %q", got, c.want)
			}
			if err := unix.Close(fd); err != nil {
				t.Fatal(err)
			}
			if err := s.Write(path); err != nil {
				t.Fatal(err)
			}
			if got, want := run(t, path, "rmci=1/0", "rmgi=1", "mode=0"), []string{"0", "0", "0 status 0"}; !reflect.DeepEqual(got, want) {
				t.Errorf("once it is closed %q, want %q", got, want)
			}
		})
	}
}

// access is the minor of a GPU instance's capability on the first GPU (nv-caps.c).
func access(s State, gi int) int { return 3 + 135*s.GPUs[0].Minor + 9*gi }

// The work is done, and the caller told that it is not; what could not be done has its own error.
func TestLie(t *testing.T) {
	for _, c := range []struct {
		symbol, word, want string
		left               int // instances
	}{
		{"nvmlDeviceCreateGpuInstanceWithPlacement", "gi=9@4", "999", 2},
		{"nvmlDeviceCreateGpuInstanceWithPlacement", "gi=9@0", insufficient, 1},
		{"nvmlGpuInstanceCreateComputeInstance", "ci=1/0", "999", 1},
		{"nvmlComputeInstanceDestroy", "rmci=1/0", "999", 1},
		{"nvmlGpuInstanceDestroy", "rmgi=1", inUse, 1},
		{"nvmlDeviceSetMigMode", "mode=1", "999 status 0", 1},
	} {
		t.Run(c.symbol, func(t *testing.T) {
			s := machine(H200)
			s.GPUs[0].Instances = []Instance{{ID: 1, Profile: 9, Compute: []Compute{{Profile: 1, UUID: "MIG-x"}}}}
			s.Rules = []Rule{{Lie, c.symbol, 999, -1}}
			path := stateFile(t, s)
			if got := run(t, path, c.word); got[0] != c.want {
				t.Errorf("%s: %q, want %s", c.word, got, c.want)
			}
			after, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			compute := len(after.GPUs[0].Instances[0].Compute)
			want := map[string]int{"ci=1/0": 2, "rmci=1/0": 0}
			if n, ok := want[c.word]; len(after.GPUs[0].Instances) != c.left || ok && compute != n {
				t.Errorf("left %+v", after.GPUs[0].Instances)
			}
		})
	}
	s := machine(H200)
	s.GPUs[0].Instances = []Instance{{ID: 1, Profile: 9}}
	s.Rules = []Rule{{Lie, "nvmlGpuInstanceDestroy", 999, -1}}
	path := stateFile(t, s)
	if got := run(t, path, "rmgi=1", "rmgi=1"); !reflect.DeepEqual(got, []string{"999", notFound}) {
		t.Errorf("destroyed: %q", got)
	}
}

// A call takes at least what it takes on hardware; what a rule says of one symbol goes before that.
func TestLatency(t *testing.T) {
	s := machine(H200)
	s.Latency = Hardware / 20
	began := time.Now()
	run(t, stateFile(t, s), "gi=9@4", "rmgi=1")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("creation and destruction took %v", took)
	}
	s.Latency = 1
	s.Rules = []Rule{{Delay, "nvmlGpuInstanceDestroy", 200_000, -1}}
	began = time.Now()
	run(t, stateFile(t, s), "gi=9@4", "rmgi=1")
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("with a rule for it: %v", took)
	}
}
