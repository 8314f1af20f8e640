// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// pod is an owner with a process of its own, and what it was told it has.
type pod struct {
	wire.Owner
	stdin  io.Closer
	cmd    *exec.Cmd
	slices []wire.Slice
	unsure bool // its last acquire or release died
}

func newPod(t testing.TB, n int) *pod {
	p := &pod{cmd: exec.Command("cat")}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	start, err := strconv.ParseUint(strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	p.Owner = wire.Owner{Namespace: "ns", Container: fmt.Sprint("pod", n), Group: ledger.NewID(), PID: p.cmd.Process.Pid, StartTime: start}
	return p
}

func (p *pod) die() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.stdin.Close()
}

// Pods come and go, and die, and the helper with them at any instant; an administrator makes and
// destroys instances of his own. After each round each pod has what it was told it has, and nobody
// has what another has.
func TestRandomKills(t *testing.T) {
	rounds := 1000
	if *long {
		rounds = 10_000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t, sliced(fakenvml.H200, 2))
	var pods []*pod
	defer func() {
		for _, p := range pods {
			p.die()
		}
	}()
	foreign, kinds := sliced(fakenvml.H200, 2), make(map[string]int)
	for round := range rounds {
		r.endanger(random)
		kind := "sweep"
		switch n := random.IntN(10); {
		case len(pods) < 4 || n < 3 && len(pods) < 8:
			kind = "acquire"
			p := newPod(t, round)
			pods = append(pods, p)
			profile := []string{"1g.18gb", "1g.18gb", "2g.35gb", "3g.71gb", "1g.35gb"}[random.IntN(5)]
			out, failed, code := r.ask("acquire", r.request(&p.Owner, wire.MIGAsk{Profile: profile, Count: 1 + random.IntN(2)}))
			if code > 0 && failed.Code != "ERROR_INSUFFICIENT_RESOURCES" {
				t.Fatalf("round %d: %v", round, failed)
			}
			p.unsure = code < 0
			if code == 0 {
				a, err := wire.DecodeMIGAcquired(out, strings.Count(string(out), `"gi":`))
				if err != nil {
					t.Fatal(err)
				}
				p.slices = a.Slices
			}
		case n < 6:
			kind = "release"
			i := random.IntN(len(pods))
			_, failed, code := r.ask("release", r.request(&pods[i].Owner))
			if failed != nil {
				t.Fatalf("round %d: %v", round, failed)
			}
			pods[i].unsure = code < 0
			pods[i].slices = nil
			if code == 0 {
				pods[i].die()
				pods = slices.Delete(pods, i, i+1)
			}
		case n < 7:
			kind = "death"
			i := random.IntN(len(pods))
			pods[i].die()
			pods = slices.Delete(pods, i, i+1)
		case n < 8:
			kind = "administrator"
			foreign = r.administrate(random, foreign, round)
		default:
			if _, failed, _ := r.ask("sweep", r.request(nil)); failed != nil {
				t.Fatalf("round %d: %v", round, failed)
			}
		}
		kinds[kind]++
		r.revive()
		r.audit(pods, foreign, fmt.Sprintf("round %d (%s)", round, kind))
	}
	for _, p := range pods {
		p.die()
	}
	pods = nil
	r.report("sweep", r.request(nil))
	r.asAtFirst(foreign, "at the end")
	t.Logf("%d rounds: %v", rounds, kinds)
}

// endanger has the next helper die somewhere, in most cases.
func (r *rig) endanger(random *rand.Rand) {
	switch random.IntN(4) {
	case 0, 1:
		kills["NVML call"](r, 1+random.IntN(400))
	case 2:
		kills["journal write"](r, 1+random.IntN(25))
	}
}

// administrate makes or destroys an instance that is none of ours.
func (r *rig) administrate(random *rand.Rand, foreign fakenvml.State, round int) fakenvml.State {
	s, gpu := r.read(), random.IntN(2)
	if mine := foreign.GPUs[gpu].Instances; len(mine) > 0 {
		foreign.GPUs[gpu].Instances = nil
		s.GPUs[gpu].Instances = slices.DeleteFunc(s.GPUs[gpu].Instances, func(in fakenvml.Instance) bool { return reflect.DeepEqual(in, mine[0]) })
	} else {
		in := fakenvml.Instance{Profile: 19, Start: random.IntN(7), ID: 7, Compute: []fakenvml.Compute{{UUID: fmt.Sprintf("MIG-%08x-1111-5222-8333-444444444444", round)}}}
		size := map[int]int{19: 1, 20: 1, 15: 2, 14: 2, 9: 4, 5: 4, 0: 8}
		for _, other := range s.GPUs[gpu].Instances {
			if in.Start >= other.Start && in.Start < other.Start+size[other.Profile] {
				return foreign
			}
		}
		for slices.ContainsFunc(s.GPUs[gpu].Instances, func(o fakenvml.Instance) bool { return o.ID == in.ID }) {
			in.ID++
		}
		s.GPUs[gpu].Instances = append(s.GPUs[gpu].Instances, in)
		foreign.GPUs[gpu].Instances = []fakenvml.Instance{in}
	}
	r.write(s)
	return foreign
}

// audit holds the machine against what everybody was told.
func (r *rig) audit(pods []*pod, foreign fakenvml.State, when string) {
	r.Helper()
	r.unharmed(foreign, when)
	var told []wire.Slice
	for _, p := range pods {
		if !p.unsure {
			told = append(told, p.slices...)
		}
	}
	r.distinct(told, when)
	for i, g := range r.read().GPUs {
		for _, in := range g.Instances {
			for _, s := range told {
				if s.BusID == g.BusID && s.GI == in.ID && (s.Place.Start != in.Start || len(in.Compute) != 1 || in.Compute[0].UUID != s.UUID) {
					r.Fatalf("%s: GPU %d has %+v where a pod has %+v", when, i, in, s)
				}
			}
		}
	}
}
