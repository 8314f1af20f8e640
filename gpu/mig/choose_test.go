// SPDX-License-Identifier: Apache-2.0

package mig

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// at makes placements of one size.
func at(size int, starts ...int) (out []Placement) {
	for _, s := range starts {
		out = append(out, Placement{s, size})
	}
	return out
}

// table is the profiles of a GPU with eight memory slices of gb each, under
// the names that it has for them.
func table(gb float64, names ...string) []Profile {
	rows := []Profile{
		{ID: 19, Slices: 1, Max: 7, Placements: at(1, 0, 1, 2, 3, 4, 5, 6)},
		{ID: 20, Slices: 1, Max: 1, Placements: at(1, 0, 1, 2, 3, 4, 5, 6)},
		{ID: 15, Slices: 1, Max: 4, Placements: at(2, 0, 2, 4, 6)},
		{ID: 14, Slices: 2, Max: 3, Placements: at(2, 0, 2, 4)},
		{ID: 9, Slices: 3, Max: 2, Placements: at(4, 0, 4)},
		{ID: 5, Slices: 4, Max: 1, Placements: at(4, 0)},
		{ID: 0, Slices: 7, Max: 1, Placements: at(8, 0)},
	}
	for i := range rows {
		rows[i].Name = names[i]
		rows[i].Memory = uint64(gb * float64(rows[i].size()) * (1 << 30))
	}
	return rows
}

func models() map[string][]Profile {
	return map[string][]Profile{
		"H200":    table(17.5, "1g.18gb", "1g.18gb+me", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"),
		"H100":    table(9.9, "1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
		"A100-40": table(4.9, "1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"),
		"A30": {
			{ID: 14, Name: "1g.6gb", Slices: 1, Memory: 6 << 30, Max: 4, Placements: at(1, 0, 1, 2, 3)},
			{ID: 5, Name: "2g.12gb", Slices: 2, Memory: 12 << 30, Max: 2, Placements: at(2, 0, 2)},
			{ID: 0, Name: "4g.24gb", Slices: 4, Memory: 24 << 30, Max: 1, Placements: at(4, 0)},
		},
		"odd": {
			{ID: 1, Name: "1g.3gb", Slices: 1, Memory: 3 << 30, Max: 3, Placements: at(2, 5, 1, 3)},
			{ID: 2, Name: "2g.5gb", Slices: 3, Memory: 5 << 30, Max: 2, Placements: at(3, 4, 0)},
			{ID: 3, Name: "5g.9gb", Slices: 5, Memory: 9 << 30, Max: 1, Placements: at(6, 1)},
		},
	}
}

func machine(model string, gpus int) (out []GPU) {
	for i := range gpus {
		out = append(out, GPU{BusID: fmt.Sprintf("0000:%02x:00.0", i), Index: i, Profiles: models()[model]})
	}
	return out
}

// put has an instance on a GPU, which must be free.
func put(t *testing.T, g *GPU, profile string, start int) {
	t.Helper()
	for _, p := range g.Profiles {
		for _, at := range g.Fits(p) {
			if p.Name == profile && at.Start == start {
				g.Instances = append(g.Instances, Instance{GI: len(g.Instances), Profile: p.ID, Placement: at})
				return
			}
		}
	}
	t.Fatalf("%s does not fit at %d", profile, start)
}

func TestChoose(t *testing.T) {
	for name, c := range map[string]struct {
		there string // GPU:profile@start
		asks  string
		want  string // the same
	}{
		"the end of a GPU keeps its halves":       {"", "1g.18gb", "0:1g.18gb@6"},
		"beside its like":                         {"0:1g.18gb@6", "1g.18gb", "0:1g.18gb@4 0:1g.18gb@5"},
		"in a GPU that is broken up already":      {"1:1g.18gb@6", "2g.35gb", "1:2g.35gb@4"},
		"where nothing large is lost":             {"0:3g.71gb@0 1:2g.35gb@0", "2g.35gb", "1:2g.35gb@2"},
		"a whole GPU where there is one":          {"0:1g.18gb@0", "7g.141gb", "1:7g.141gb@0"},
		"a half where the other is taken":         {"1:4g.71gb@0", "3g.71gb", "1:3g.71gb@4"},
		"the upper half, for 4g needs the lower":  {"", "3g.71gb", "0:3g.71gb@4"},
		"media engines to who names them":         {"", "1g.18gb+me", "0:1g.18gb+me@6"},
		"the least that is enough":                {"", ">=20GiB", "0:1g.35gb@6"},
		"more where the least has no room":        {"0:1g.18gb@0 0:1g.18gb@2 0:1g.18gb@4 0:1g.18gb@6 1:1g.18gb@0 1:1g.18gb@2 1:1g.18gb@6", ">=20GiB", "1:1g.35gb@4"},
		"the large one first":                     {"1:7g.141gb@0", "1g.18gb:3,3g.71gb,3g.71gb", ""},
		"the large one first, whatever the order": {"1:7g.141gb@0", "1g.18gb,3g.71gb", "0:1g.18gb@0 0:3g.71gb@4"},
		"all that there is":                       {"1:7g.141gb@0", "1g.18gb,2g.35gb,4g.71gb", "0:1g.18gb@6 0:2g.35gb@4 0:4g.71gb@0"},
	} {
		t.Run(name, func(t *testing.T) {
			gpus := machine("H200", 2)
			for _, word := range strings.Fields(c.there) {
				var gpu, start int
				word = strings.NewReplacer(":", " ", "@", " ").Replace(word)
				var profile string
				if _, err := fmt.Sscan(word, &gpu, &profile, &start); err != nil {
					t.Fatal(err)
				}
				put(t, &gpus[gpu], profile, start)
			}
			asks, err := ParseAsk(c.asks)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Choose(gpus, asks)
			if c.want == "" {
				if !errdefs.IsResourceExhausted(err) {
					t.Fatalf("%v, %v", got, err)
				}
				return
			}
			var words []string
			for _, choice := range got {
				gpu := slices.IndexFunc(gpus, func(g GPU) bool { return g.BusID == choice.BusID })
				words = append(words, fmt.Sprintf("%d:%s@%d", gpu, choice.Profile.Name, choice.Placement.Start))
			}
			if text := strings.Join(words, " "); err != nil || text != c.want && !strings.Contains(" "+c.want+" ", " "+text+" ") {
				t.Errorf("got %s, %v; want %s", text, err, c.want)
			}
		})
	}
}

func TestChooseErrors(t *testing.T) {
	_, err := Choose(machine("H200", 1), []Ask{{Profile: "9g.1gb", Count: 1}})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "9g.1gb") || !strings.Contains(err.Error(), "3g.71gb") {
		t.Error(err)
	}
	if _, err = Choose(machine("H200", 1), []Ask{{Memory: 1 << 50, Count: 1}}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err = Choose(nil, []Ask{{Profile: "1g.18gb", Count: 1}}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	// Who asks for memory gets no media engines that others need.
	engines := machine("H200", 1)
	engines[0].Profiles = engines[0].Profiles[1:2]
	if _, err = Choose(engines, []Ask{{Memory: 1 << 30, Count: 1}}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err = Choose(machine("H200", 2), []Ask{{Profile: "7g.141gb", Count: 3}}); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "7g.141gb:3") {
		t.Error(err)
	}
}

// populate fills GPUs at random, legally.
func populate(gpus []GPU, chance *rand.Rand) {
	for i := range gpus {
		for range chance.IntN(5) {
			g := &gpus[i]
			p := g.Profiles[chance.IntN(len(g.Profiles))]
			if fits := g.Fits(p); len(fits) > 0 {
				g.Instances = append(g.Instances, Instance{GI: len(g.Instances), Profile: p.ID, Placement: fits[chance.IntN(len(fits))]})
			}
		}
	}
}

// legal says that what is on a GPU may be there, by NVIDIA's rules alone: no two share a memory slice, each is
// at a placement of its profile, no profile has more than its most, and the compute slices are enough.
func legal(g *GPU, compute int) bool {
	var mask uint64
	n, used := map[int]int{}, 0
	for _, in := range g.Instances {
		i := slices.IndexFunc(g.Profiles, func(p Profile) bool { return p.ID == in.Profile })
		p := g.Profiles[i]
		n[p.ID]++
		used += p.Slices
		m := (uint64(1)<<in.Placement.Size - 1) << in.Placement.Start
		if mask&m != 0 || n[p.ID] > p.Max || used > compute || !slices.Contains(p.Placements, in.Placement) {
			return false
		}
		mask |= m
	}
	return true
}

// computeSlices are what the models have.
var computeSlices = map[string]int{"H200": 7, "H100": 7, "A100-40": 7, "A30": 4, "odd": 5}

// possible is whether all of it has room, tried in every way.
func possible(gpus []GPU, names []string, compute int) bool {
	if len(names) == 0 {
		return true
	}
	for i := range gpus {
		g := &gpus[i]
		for _, p := range g.Profiles {
			if p.Name != names[0] {
				continue
			}
			for _, at := range p.Placements {
				g.Instances = append(g.Instances, Instance{Profile: p.ID, Placement: at})
				ok := legal(g, compute) && possible(gpus, names[1:], compute)
				g.Instances = g.Instances[:len(g.Instances)-1]
				if ok {
					return true
				}
			}
		}
	}
	return false
}

// TestChooseAgainstBruteForce has it find places exactly when there are some,
// legal ones, and for one instance the one that costs least.
func TestChooseAgainstBruteForce(t *testing.T) {
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 1))
	for model := range models() {
		for round := range 600 {
			gpus := machine(model, 1+chance.IntN(2))
			populate(gpus, chance)
			before := fmt.Sprint(gpus)
			var asks []Ask
			var names []string
			for range 1 + chance.IntN(4) {
				p := gpus[0].Profiles[chance.IntN(len(gpus[0].Profiles))]
				asks, names = append(asks, Ask{Profile: p.Name, Count: 1}), append(names, p.Name)
			}
			got, err := Choose(gpus, asks)
			if after := fmt.Sprint(gpus); after != before {
				t.Fatalf("seed %d, %s, round %d: the GPUs were %s, are %s", seed, model, round, before, after)
			}
			if want := possible(gpus, names, computeSlices[model]); (err == nil) != want {
				t.Fatalf("seed %d, %s, round %d: %v on %+v: %v, %v; possible: %v", seed, model, round, names, gpus, got, err, want)
			}
			if err != nil {
				continue
			}
			if len(got) == 1 {
				cheapest(t, gpus, got[0])
			}
			for i, c := range got {
				if c.Profile.Name != names[i] {
					t.Fatalf("choice %d is %s, asked for %s", i, c.Profile.Name, names[i])
				}
			}
			slices.SortStableFunc(got, func(a, b Choice) int { return b.Profile.size() - a.Profile.size() })
			for _, c := range got {
				i := slices.IndexFunc(gpus, func(g GPU) bool { return g.BusID == c.BusID })
				if !slices.Contains(gpus[i].Fits(c.Profile), c.Placement) {
					t.Fatalf("seed %d, %s, round %d: %+v is not free in %+v", seed, model, round, c, gpus[i])
				}
				gpus[i].Instances = append(gpus[i].Instances, Instance{Profile: c.Profile.ID, Placement: c.Placement})
			}
		}
	}
}

// A variant of a profile is the same place again: it does not make a GPU more open.
func TestOpenCountsNoVariants(t *testing.T) {
	with := machine("H200", 1)[0]
	without := with
	without.Profiles = slices.DeleteFunc(slices.Clone(with.Profiles), func(p Profile) bool { return strings.Contains(p.Name, "+") })
	if with.open() != without.open() || with.open() == 0 {
		t.Errorf("%d with variants, %d without", with.open(), without.open())
	}
}

// check says that choices are what was asked for, and may be made.
func check(t *testing.T, gpus []GPU, asks []Ask, got []Choice, compute int) {
	t.Helper()
	n := 0
	for _, a := range asks {
		for range a.Count {
			c := got[n]
			n++
			i := slices.IndexFunc(gpus, func(g GPU) bool { return g.BusID == c.BusID })
			gpus[i].Instances = append(gpus[i].Instances, Instance{Profile: c.Profile.ID, Placement: c.Placement})
			if a.Profile != "" && c.Profile.Name != a.Profile || c.Profile.Memory < a.Memory || !legal(&gpus[i], compute) {
				t.Errorf("asked for %v, got %s at %+v: %+v", a, c.Profile.Name, c.Placement, gpus[i].Instances)
			}
		}
	}
	if n != len(got) {
		t.Errorf("asked for %d, got %d", n, len(got))
	}
}

// Many that have room are placed as well as few are: what is left is what is best for others.
func TestChooseManyWell(t *testing.T) {
	gpus := machine("H200", 3)
	asks := []Ask{{Profile: "1g.18gb", Count: 17}}
	got, err := Choose(gpus, asks)
	if err != nil {
		t.Fatal(err)
	}
	check(t, gpus, asks, got, 7)
	if _, err := Choose(gpus, []Ask{{Profile: "4g.71gb", Count: 1}}); err != nil {
		t.Errorf("three of 17 are on the last GPU, and its lower half is not free: %v", err)
	}
}

// Asked for just what can be on the machine, of which the layout is not told, Choose finds one.
func TestChooseAPerfectPacking(t *testing.T) {
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 1))
	for _, size := range []int{1, 2, 3, 4, 8, 16} {
		for round := range 40 {
			gpus := machine("H200", size)
			count := map[string]int{}
			for i := range gpus {
				g := &gpus[i]
				for range 12 {
					p := g.Profiles[chance.IntN(len(g.Profiles))]
					if fits := g.Fits(p); len(fits) > 0 {
						g.Instances = append(g.Instances, Instance{Profile: p.ID, Placement: fits[chance.IntN(len(fits))]})
						count[p.Name]++
					}
				}
			}
			var asks []Ask
			for _, p := range gpus[0].Profiles {
				switch n := count[p.Name]; {
				case n > 1 && round%2 == 1 && p.plain(): // one of them by its memory
					asks = append(asks, Ask{Profile: p.Name, Count: n - 1}, Ask{Memory: p.Memory, Count: 1})
				case n > 0:
					asks = append(asks, Ask{Profile: p.Name, Count: n})
				}
			}
			got, err := Choose(machine("H200", size), asks)
			if err != nil {
				t.Fatalf("seed %d, %d GPUs, round %d: %v", seed, size, round, err)
			}
			check(t, machine("H200", size), asks, got, 7)
		}
	}
}

// A search that is given up says so: it is no proof that there is no room.
func TestChooseGivesUp(t *testing.T) {
	g := GPU{BusID: "0000:3b:00.0"}
	var asks []Ask
	for i := range 12 {
		p := Profile{ID: i, Name: fmt.Sprintf("1g.%dgb", i+1), Slices: 1, Memory: 1 << 30, Max: 24}
		for start := range 24 {
			p.Placements = append(p.Placements, Placement{start, 1})
		}
		g.Profiles = append(g.Profiles, p)
		asks = append(asks, Ask{Profile: p.Name, Count: 2})
	}
	g.Profiles = append(g.Profiles, Profile{ID: 99, Name: "23g.1gb", Slices: 23, Memory: 1 << 30, Max: 1, Placements: at(1, 0)})
	_, err := Choose([]GPU{g}, asks)
	if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "there may be room") {
		t.Error(err)
	}
}

func cheapest(t *testing.T, gpus []GPU, c Choice) {
	t.Helper()
	least, took := 1<<30, 1<<30
	for i := range gpus {
		for _, p := range gpus[i].Profiles {
			if p.Name != c.Profile.Name {
				continue
			}
			for _, at := range gpus[i].Fits(p) {
				cost := gpus[i].cost(p, at)
				least = min(least, cost)
				if gpus[i].BusID == c.BusID && reflect.DeepEqual(at, c.Placement) {
					took = cost
				}
			}
		}
	}
	if took != least {
		t.Fatalf("%+v costs %d, the cheapest %d", c, took, least)
	}
}

func BenchmarkChoose(b *testing.B) {
	gpus := machine("H200", 8)
	populate(gpus, rand.New(rand.NewPCG(1, 1)))
	for b.Loop() {
		_, _ = Choose(gpus, []Ask{{Profile: "2g.35gb", Count: 1}})
	}
}
