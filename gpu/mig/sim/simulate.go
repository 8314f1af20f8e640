// SPDX-License-Identifier: Apache-2.0

package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"

	"berth/gpu/mig"
)

const (
	gpuCount = 8
	slots    = 8 // memory slices of a GPU
	arrivals = 10_000
	seed     = 20261124
)

// h200 has the profiles and placements that NVML reports for one.
func h200() []mig.Profile {
	row := func(id int, name string, compute, most, size int, starts ...int) mig.Profile {
		p := mig.Profile{ID: id, Name: name, Slices: compute, Max: most, Memory: uint64(size) * 17_500 << 20}
		for _, s := range starts {
			p.Placements = append(p.Placements, mig.Placement{Start: s, Size: size})
		}
		return p
	}
	return []mig.Profile{
		row(19, "1g.18gb", 1, 7, 1, 0, 1, 2, 3, 4, 5, 6),
		row(15, "1g.35gb", 1, 4, 2, 0, 2, 4, 6),
		row(14, "2g.35gb", 2, 3, 2, 0, 2, 4),
		row(9, "3g.71gb", 3, 2, 4, 0, 4),
		row(5, "4g.71gb", 4, 1, 4, 0),
		row(0, "7g.141gb", 7, 1, 8, 0),
	}
}

// mix is how often each profile is asked for, in the order of h200.
type mix struct {
	name   string
	shares []int
}

var mixes = []mix{
	{"mostly small", []int{60, 10, 20, 8, 1, 1}},
	{"mixed", []int{30, 10, 25, 20, 5, 10}},
	{"mostly large", []int{15, 5, 15, 30, 15, 20}},
}

// loads are the memory slices that would be taken on average if nobody were
// refused, as a share of all.
var loads = []float64{0.6, 0.8, 1.0}

// chooser places one instance.
type chooser struct {
	name   string
	choose func(gpus []mig.GPU, p mig.Profile) (gpu int, at mig.Placement, ok bool)
}

var choosers = []chooser{{"first fit", firstFit}, {"berth", berth}}

// firstFit takes the first GPU with room, and there the first placement.
func firstFit(gpus []mig.GPU, p mig.Profile) (int, mig.Placement, bool) {
	for i := range gpus {
		if fits := gpus[i].Fits(p); len(fits) > 0 {
			return i, fits[0], true
		}
	}
	return 0, mig.Placement{}, false
}

func berth(gpus []mig.GPU, p mig.Profile) (int, mig.Placement, bool) {
	got, err := mig.Choose(gpus, []mig.Ask{{Profile: p.Name, Count: 1}})
	if err != nil {
		return 0, mig.Placement{}, false
	}
	i := slices.IndexFunc(gpus, func(g mig.GPU) bool { return g.BusID == got[0].BusID })
	return i, got[0].Placement, true
}

// row is the outcome of one chooser under one mix and load.
type row struct {
	mix      string
	load     float64
	chooser  string
	accepted float64 // share of the pods
	large    float64 // share of the pods that ask for half a GPU or more
	split    float64 // share of the pods refused with enough memory slices free
	used     float64 // mean share of memory slices in use
	whole    float64 // mean number of GPUs without an instance
}

func simulate() (rows []row) {
	for _, m := range mixes {
		for _, load := range loads {
			for _, c := range choosers {
				rows = append(rows, one(m, load, c))
			}
		}
	}
	return rows
}

// departure is when an instance goes.
type departure struct {
	when float64
	gpu  int
	at   mig.Placement
}

type departures []departure

func (d departures) Len() int           { return len(d) }
func (d departures) Less(i, j int) bool { return d[i].when < d[j].when }
func (d departures) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *departures) Push(x any)        { *d = append(*d, x.(departure)) }
func (d *departures) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

// one runs 10,000 pods. All choosers see the same pods: arrivals are a Poisson
// process, lifetimes exponential with a mean of 1.
func one(m mix, load float64, c chooser) row {
	chance := rand.New(rand.NewPCG(seed, uint64(load*100)))
	profiles := h200()
	gpus := make([]mig.GPU, gpuCount)
	for i := range gpus {
		gpus[i] = mig.GPU{BusID: string(rune('a' + i)), Index: i, Profiles: profiles}
	}
	total, mean := 0, 0.0
	for i, share := range m.shares {
		total += share
		mean += float64(share * profiles[i].Placements[0].Size)
	}
	rate := load * gpuCount * slots / (mean / float64(total))
	var queue departures
	var now, used, whole float64
	var accepted, large, largeAccepted, split int
	taken := 0
	for range arrivals {
		next := now + chance.ExpFloat64()/rate
		p := profiles[pick(m.shares, chance.IntN(total))]
		life := chance.ExpFloat64()
		for len(queue) > 0 && queue[0].when <= next {
			d := heap.Pop(&queue).(departure)
			used, whole, now = used+float64(taken)*(d.when-now), whole+float64(empty(gpus))*(d.when-now), d.when
			remove(&gpus[d.gpu], d.at)
			taken -= d.at.Size
		}
		used, whole, now = used+float64(taken)*(next-now), whole+float64(empty(gpus))*(next-now), next
		size := p.Placements[0].Size
		if size >= slots/2 {
			large++
		}
		gpu, at, ok := c.choose(gpus, p)
		if !ok {
			if gpuCount*slots-taken >= size {
				split++
			}
			continue
		}
		accepted++
		if size >= slots/2 {
			largeAccepted++
		}
		gpus[gpu].Instances = append(gpus[gpu].Instances, mig.Instance{Profile: p.ID, Placement: at})
		taken += size
		heap.Push(&queue, departure{now + life, gpu, at})
	}
	return row{m.name, load, c.name, float64(accepted) / arrivals, float64(largeAccepted) / float64(large),
		float64(split) / arrivals, used / now / (gpuCount * slots), whole / now}
}

func pick(shares []int, n int) int {
	for i, s := range shares {
		if n < s {
			return i
		}
		n -= s
	}
	return len(shares) - 1
}

func empty(gpus []mig.GPU) (n int) {
	for _, g := range gpus {
		if len(g.Instances) == 0 {
			n++
		}
	}
	return n
}

func remove(g *mig.GPU, at mig.Placement) {
	g.Instances = slices.DeleteFunc(g.Instances, func(in mig.Instance) bool { return in.Placement == at })
}
