// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// long has the tests that repeat do so more often; make test-long gives it.
var long = flag.Bool("long", false, "10,000 random rounds, and each crash with each continuation")

// shared is a machine whose GPU has an administrator's instances: one in use, one still empty.
func shared() fakenvml.State {
	s := sliced(fakenvml.H200, 1)
	s.GPUs[0].Instances = []fakenvml.Instance{
		{ID: 5, Profile: 14, Start: 2, Compute: []fakenvml.Compute{{Profile: 1, UUID: mig0}}},
		{ID: 9, Profile: 19, Start: 6},
	}
	return s
}

// instances are those of all GPUs, in no order that matters.
func instances(s fakenvml.State) (out []string) {
	for i, g := range s.GPUs {
		for _, in := range g.Instances {
			out = append(out, fmt.Sprintf("%d %+v", i, in))
		}
	}
	slices.Sort(out)
	return out
}

// unharmed says that all that was there at first is there now.
func (r *rig) unharmed(first fakenvml.State, when string) {
	r.Helper()
	now := instances(r.read())
	for _, in := range instances(first) {
		if !slices.Contains(now, in) {
			r.Fatalf("%s: a foreigner's instance %s is gone: %v", when, in, now)
		}
	}
}

// asAtFirst says that nothing of ours is left, on the GPUs or on record.
func (r *rig) asAtFirst(first fakenvml.State, when string) {
	r.Helper()
	if now := instances(r.read()); !reflect.DeepEqual(now, instances(first)) || len(r.records()) != 0 {
		r.Fatalf("%s: left %v, records %v; at first %v", when, now, r.records(), instances(first))
	}
}

// killAt has the helper die after its nth call of NVML, or nth change of the ledger.
type killAt func(r *rig, n int)

var kills = map[string]killAt{
	"NVML call": func(r *rig, n int) {
		s := r.read()
		s.Rules = append(s.Rules, fakenvml.Rule{Verb: fakenvml.Crash, Symbol: fakenvml.AnyCall, Value: n, GPU: -1})
		r.write(s)
	},
	"journal write": func(r *rig, n int) {
		r.program, r.env = mortal, []string{fmt.Sprint("BERTH_CRASH_STEP=", n)}
	},
}

// signature is what a kill left: what is where, and the states on record.
func (r *rig) signature() string {
	out := regexp.MustCompile(`UUID:[^}]*`).ReplaceAllString(fmt.Sprint(instances(r.read())), "")
	for _, path := range r.records() {
		data, err := os.ReadFile(path)
		if err != nil {
			r.Fatal(err)
		}
		out += string(regexp.MustCompile(`"state":"[A-Za-z]*"`).Find(data))
	}
	return out
}

// revive undoes killAt.
func (r *rig) revive() {
	s := r.read()
	s.Rules = slices.DeleteFunc(s.Rules, func(rule fakenvml.Rule) bool { return rule.Verb == fakenvml.Crash })
	r.write(s)
	r.program, r.env = helper, nil
}

// Whatever instant the helper is killed at, what comes next puts things right.
func TestKilledAnywhere(t *testing.T) {
	none := func(*rig, *wire.Owner) {}
	for _, victim := range []struct {
		name, word string
		prepare    func(*rig, *wire.Owner) // makes what the victim meets
	}{
		{"acquire", "acquire", none},
		{"acquire after a dead owner", "acquire", func(r *rig, _ *wire.Owner) { r.acquire(r.request(r.gone("earlier"), ask1g(1))) }},
		{"acquire again", "acquire", func(r *rig, o *wire.Owner) { r.acquire(r.request(o, ask1g(1))) }},
		{"release", "release", func(r *rig, o *wire.Owner) { r.acquire(r.request(o, ask1g(2))) }},
		{"release that keeps", "release", func(r *rig, o *wire.Owner) { r.giveUp = true; r.acquire(r.request(o, ask1g(2))) }},
		{"acquire that takes over", "acquire", func(r *rig, _ *wire.Owner) {
			r.giveUp = true
			r.acquire(r.request(r.me("earlier"), ask1g(1)))
			r.keep(r.me("earlier"))
		}},
		{"acquire that makes room", "acquire", func(r *rig, _ *wire.Owner) {
			r.giveUp = true
			r.acquire(r.request(r.me("earlier"), wire.MIGAsk{Profile: "1g.35gb", Count: 2}))
			r.keep(r.me("earlier"))
		}},
		{"sweep", "sweep", func(r *rig, _ *wire.Owner) { r.acquire(r.request(r.gone("earlier"), ask1g(2))) }},
	} {
		for what, kill := range kills {
			if victim.name == "acquire that makes room" && !*long {
				continue
			}
			t.Run(victim.name+"/"+what, func(t *testing.T) {
				t.Parallel()
				last := ""
				for n, finished := 1, false; !finished; n++ {
					for i := range afterwards {
						next := afterwards[(n+i)%len(afterwards)]
						r := newRig(t, shared())
						o := next.owner(r, "victim")
						victim.prepare(r, o)
						kill(r, n)
						q := r.request(o)
						if victim.word == "acquire" {
							q = r.request(o, ask1g(2))
						}
						if victim.name == "release that keeps" {
							q.KeepIdleMS, q.TimeoutMS = time.Hour.Milliseconds(), 10_000
						}
						_, failed, code := r.ask(victim.word, q)
						if finished = code == 0; failed != nil || finished && n < 10 {
							t.Fatalf("killed at %d: exit status %d, %v", n, code, failed)
						}
						r.revive()
						left := r.signature()
						when := fmt.Sprintf("killed at %s %d, then %s", what, n, next.name)
						r.unharmed(shared(), "before "+when)
						next.do(r, when)
						r.asAtFirst(shared(), when)
						if left == last && !*long {
							break // nothing changed since the kill before
						}
						last = left
					}
				}
			})
		}
	}
}

// afterwards are what comes next. It is to leave nothing.
var afterwards = []struct {
	name  string
	owner func(*rig, string) *wire.Owner // the victim's
	do    func(r *rig, when string)
}{
	{"the owner releases", (*rig).me, func(r *rig, _ string) {
		r.report("release", r.request(r.me("victim")))
		r.report("sweep", r.request(nil))
	}},
	{"the owner tries again", (*rig).me, func(r *rig, when string) {
		made := r.acquire(r.request(r.me("victim"), ask1g(2)))
		// Beside the administrator's, of which one is empty, and what is idle.
		if got := instances(r.read()); strings.Count(fmt.Sprint(got), "UUID:") != 3 || !r.giveUp && len(got) != 4 {
			r.Fatalf("%s: %v", when, got)
		}
		r.distinct(made, when)
		r.report("release", r.request(r.me("victim")))
		if r.giveUp {
			r.report("sweep", r.request(nil))
		}
	}},
	{"its owner dies, and another wants all there is", (*rig).gone, func(r *rig, when string) {
		made := r.acquire(r.request(r.me("next"), ask1g(4)))
		r.distinct(made, when)
		r.unharmed(shared(), when)
		r.report("release", r.request(r.me("next")))
		if r.giveUp {
			r.report("sweep", r.request(nil))
		}
	}},
	{"its owner dies, and all is swept", (*rig).gone, func(r *rig, _ string) {
		r.report("sweep", r.request(nil))
	}},
}

// distinct says that no two slices are the same, and that each is there.
func (r *rig) distinct(made []wire.Slice, when string) {
	r.Helper()
	var there []string
	for _, g := range r.read().GPUs {
		for _, in := range g.Instances {
			for _, c := range in.Compute {
				there = append(there, c.UUID)
			}
		}
	}
	sorted := slices.SortedFunc(slices.Values(made), func(a, b wire.Slice) int { return cmp.Compare(a.UUID, b.UUID) })
	for i, s := range sorted {
		if !slices.Contains(there, s.UUID) || i > 0 && sorted[i-1].UUID == s.UUID {
			r.Fatalf("%s: slices %+v, there are %v", when, made, there)
		}
	}
}
