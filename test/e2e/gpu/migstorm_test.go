// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"

	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// long has the storm be one of more guests, with the latencies of hardware; make
// test-long gives it.
var long = flag.Bool("long", false, "a longer storm of MIG slices")

// storm has guests come and go on a machine, and strikes meanwhile.
type storm struct {
	*testing.T
	ctx context.Context
	m   *machine
	// state is NVML's file, first what was in it before.
	state string
	first fakenvml.State

	mu       sync.Mutex // guards what follows
	chance   *rand.Rand
	up       chan struct{}    // closed while containerd is there
	happened map[event]int    // how often
	alone    map[string]bool  // owners for whom a helper was killed
	failed   map[string]error // guests that did not start
}

// event is what is to happen in a storm that shows something.
type event string

const (
	helperKilled     event = "helper killed"
	shimKilled       event = "shim killed"
	containerdKilled event = "containerd killed"
	sliceSeen        event = "slice of a living container seen"
	sliceHeld        event = "slice in use seen"
)

func (s *storm) note(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.happened[e]++
}

// TestSliceStorm has guests of mixed profiles come and go on eight GPUs, one of
// which an administrator has partitioned, while shims, helpers and containerd are
// killed, at any time: while slices are made, used and given back. Who has a slice
// and lives has it throughout. In the end, containerd having cleaned up, there is
// nothing left of anybody but of those whose helper was killed in its work, for
// whom nobody was there to finish it; and after a sweep nothing at all.
func TestSliceStorm(t *testing.T) {
	guests, latency := 60, fakenvml.Hardware/5
	if *long {
		guests, latency = 300, fakenvml.Hardware
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := newStorm(t, seed, latency)
	s.run(guests)
	s.Logf("%d of %d guests started; happened: %v", guests-len(s.failed), guests, s.happened)
	for _, what := range []event{helperKilled, shimKilled, containerdKilled, sliceSeen, sliceHeld} {
		if s.happened[what] == 0 || len(s.failed) > guests*2/3 {
			t.Errorf("%s: %d times; this shows nothing", what, s.happened[what])
		}
	}
	s.settle()
	s.wantOnly(s.alone)
	s.sweep()
	s.wantOnly(nil)
}

func newStorm(t *testing.T, seed uint64, latency int) *storm {
	m, state := sliced(t, 8)
	first := foreign(t, m, state)
	first.Latency = latency
	if err := first.Write(state); err != nil {
		t.Fatal(err)
	}
	// Each guest takes some time yet on a machine that does much else.
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), shared.ID()), 10*time.Minute)
	t.Cleanup(cancel)
	up := make(chan struct{})
	close(up)
	return &storm{T: t, ctx: ctx, m: m, state: state, first: first, chance: rand.New(rand.NewPCG(seed, 0)), up: up,
		happened: map[event]int{}, alone: map[string]bool{}, failed: map[string]error{}}
}

// run has several guests at a time. Each worker has a few, and now and then one
// of them goes before the next one comes.
func (s *storm) run(guests int) {
	const workers, stay = 5, 4
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var mine []*guest
			for i := range next {
				if len(mine) > s.intn(stay) {
					n := s.intn(len(mine))
					s.during(func() { s.remove(mine[n]) })
					mine = append(mine[:n], mine[n+1:]...)
				}
				g := s.guest(i)
				s.during(func() { s.start(g) })
				mine = append(mine, g)
			}
			for _, g := range mine {
				s.during(func() { s.remove(g) })
			}
		})
	}
	for i := range guests {
		if i%(guests/3) == guests/6 {
			s.killContainerd()
		}
		next <- i
	}
	close(next)
	wg.Wait()
}

// wantOnly wants the machine to be as at first, but for what is on record of
// certain owners.
func (s *storm) wantOnly(owners map[string]bool) {
	s.Helper()
	records := s.records()
	explained := map[string]bool{}
	for _, r := range records {
		if !owners[r.owner()] {
			s.Errorf("left on record: %+v, whose helper was not killed", r)
		}
		explained[fmt.Sprint(r.BusID, r.Place.Start)] = true
	}
	after := must(fakenvml.Read(s.state))(s.T)
	for i := range after.GPUs {
		var kept []fakenvml.Instance
		for _, in := range after.GPUs[i].Instances {
			if !explained[fmt.Sprint(after.GPUs[i].BusID, in.Start)] {
				kept = append(kept, in)
			}
		}
		after.GPUs[i].Instances = kept
	}
	if !reflect.DeepEqual(after, s.first) {
		s.Errorf("NVML has, beside what is on record,\n%+v\nat the start it had\n%+v", after, s.first)
	}
	s.Logf("left: %d records of slices", len(records))
	s.wantNoFiles(owners == nil)
}

// foreign has an administrator partition the last GPU.
func foreign(t *testing.T, m *machine, state string) fakenvml.State {
	t.Helper()
	s := must(fakenvml.Read(state))(t)
	last := len(s.GPUs) - 1
	in := fakedriver.Instance{GI: 1}
	if err := m.AddInstance(last, in); err != nil {
		t.Fatal(err)
	}
	s.GPUs[last].Instances = []fakenvml.Instance{{ID: in.GI, Profile: 9, Start: 0, Compute: []fakenvml.Compute{{Profile: 2, UUID: migUUID(in)}}}}
	if err := s.Write(state); err != nil {
		t.Fatal(err)
	}
	return must(fakenvml.Read(state))(t)
}

// sweep is what an operator does, or the next who finds no room.
func (s *storm) sweep() {
	cmd := shared.Command(s.ctx, "berth", "gpu", "reclaim")
	cmd.Env = append(cmd.Env, "BERTH_GPU_CONFIG="+config)
	if out, err := shared.Run(cmd); err != nil {
		s.Errorf("reclaim: %v: %s", err, out)
	}
}

func (s *storm) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chance.IntN(n)
}

// each does something for all ids, several at a time.
func each(workers int, ids []string, do func(i int, id string)) {
	var wg sync.WaitGroup
	work := make(chan int)
	for range workers {
		wg.Go(func() {
			for i := range work {
				do(i, ids[i])
			}
		})
	}
	for i := range ids {
		work <- i
	}
	close(work)
	wg.Wait()
}
