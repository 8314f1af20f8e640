// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// TestSliceStorm has 50 containers of mixed profiles come and go on eight GPUs,
// one of which an administrator has partitioned, while the helper, shims and
// containerd are killed. At the end NVML has what it had at the start.
func TestSliceStorm(t *testing.T) {
	const pods, waves, workers = 50, 3, 8
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	m, state := sliced(t, 8)
	before := foreign(t, m, state)
	ctx := testContext(t)
	var ran, killed int
	for wave := range waves {
		var ids []string
		for i := wave; i < pods; i += waves {
			ids = append(ids, fmt.Sprintf("storm-%d", i))
		}
		stop := killHelpers(t, m.Root, rand.New(rand.NewPCG(seed, uint64(wave+1))))
		started := startAll(ctx, t, m, ids, workers, chance)
		killed += stop()
		ran += len(started)
		wantDistinct(t, m, state)
		// While containerd is away, shims die.
		if err := shared.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, c := range started {
			if chance.IntN(3) == 0 {
				if err := unix.Kill(shimOf(t, c.ID()), unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := shared.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		stop = killHelpers(t, m.Root, rand.New(rand.NewPCG(seed, uint64(wave+100))))
		each(workers, ids, func(_ int, id string) {
			if err := removeContainer(ctx, id); err != nil {
				t.Error(err)
			}
		})
		killed += stop()
	}
	t.Logf("%d containers ran, %d helpers were killed", ran, killed)
	if ran < pods/2 || killed == 0 {
		t.Errorf("%d of %d containers ran, %d helpers were killed: this shows nothing", ran, pods, killed)
	}
	awaitHelpers(ctx, t, m.Root)
	reclaim(ctx, t)
	if after := must(fakenvml.Read(state))(t); !reflect.DeepEqual(after, before) {
		t.Errorf("at the end NVML has\n%+v\nat the start it had\n%+v", after, before)
	}
	for _, pattern := range []string{"mig/*/*.json", "claims/*", "tenants/*"} {
		if left := must(filepath.Glob(filepath.Join(m.run, pattern)))(t); left != nil {
			t.Errorf("left behind: %q", left)
		}
	}
}

// foreign has an administrator partition the last GPU, and gives calls that
// change something the time that they take on hardware, more or less.
func foreign(t *testing.T, m *machine, state string) fakenvml.State {
	t.Helper()
	s := must(fakenvml.Read(state))(t)
	last := len(s.GPUs) - 1
	in := fakedriver.Instance{GI: 1}
	if err := m.AddInstance(last, in); err != nil {
		t.Fatal(err)
	}
	s.GPUs[last].Instances = []fakenvml.Instance{{ID: in.GI, Profile: 9, Start: 0, Compute: []fakenvml.Compute{{Profile: 2, UUID: migUUID(in)}}}}
	s.Latency = fakenvml.Hardware / 50
	if err := s.Write(state); err != nil {
		t.Fatal(err)
	}
	return must(fakenvml.Read(state))(t)
}

// killHelpers kills, until it is stopped, one in four of the helpers of a machine,
// at some time of their lives, and then says how many.
func killHelpers(t *testing.T, root string, chance *rand.Rand) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		looks := map[int]int{} // how often one is looked at yet; below 0 it is spared
		for ctx.Err() == nil {
			for _, pid := range helpers(t, root) {
				if _, known := looks[pid]; !known {
					looks[pid] = chance.IntN(10)
					if chance.IntN(4) > 0 {
						looks[pid] = -1
					}
				}
				if looks[pid] == 0 && unix.Kill(pid, unix.SIGKILL) == nil {
					n.Add(1)
				}
				looks[pid]--
			}
		}
	}()
	return func() int { cancel(); <-done; return int(n.Load()) }
}

// helpers are the pids of those that work on a machine.
func helpers(t *testing.T, root string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		command, err := os.ReadFile("/proc/" + e.Name() + "/cmdline") // it may be gone
		if err == nil && strings.Contains(string(command), "berth-gpu\x00mig\x00") && strings.Contains(string(command), root) {
			pids = append(pids, pid)
		}
	}
	return pids
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

// startAll starts containers of mixed profiles. Those whose helper was killed,
// and those without room, are refused.
func startAll(ctx context.Context, t *testing.T, m *machine, ids []string, workers int, chance *rand.Rand) (started []*container) {
	profiles := []string{"1g.18gb", "1g.18gb", "1g.18gb:2", "2g.35gb", "3g.71gb", ">=30GiB", "7g.141gb", "1g.35gb"}
	asks := make([]string, len(ids))
	for i := range asks {
		asks[i] = profiles[chance.IntN(len(profiles))]
	}
	out := make([]*container, len(ids))
	each(workers, ids, func(i int, id string) {
		c, err := tryStart(ctx, t, slice(id, asks[i]))
		if err == nil {
			out[i] = c
			return
		}
		t.Logf("%s, %s: %.300v", id, asks[i], err)
		if hasClaim(m, id) {
			t.Errorf("%s was refused, and left a claim", id)
		}
	})
	for _, c := range out {
		if c != nil {
			started = append(started, c)
		}
	}
	return started
}

// wantDistinct wants each container's slices to exist, and to be nobody else's.
func wantDistinct(t *testing.T, m *machine, state string) {
	t.Helper()
	live := map[string]bool{}
	for _, of := range instances(t, state) {
		for _, in := range of {
			for _, ci := range in.Compute {
				live[ci.UUID] = true
			}
		}
	}
	holder := map[string]string{}
	for _, path := range must(filepath.Glob(filepath.Join(m.run, "claims", "*")))(t) {
		var claim struct {
			ID     string
			Slices struct{ Made []struct{ UUID string } }
		}
		if err := json.Unmarshal(must(os.ReadFile(path))(t), &claim); err != nil {
			t.Fatal(err)
		}
		for _, s := range claim.Slices.Made {
			if !live[s.UUID] || holder[s.UUID] != "" {
				t.Errorf("%s has the slice %s, which exists: %v, and which %q has too", claim.ID, s.UUID, live[s.UUID], holder[s.UUID])
			}
			holder[s.UUID] = claim.ID
		}
	}
}
