// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// gpuReport has the gpu shim as the shim and the pod shim as the control.
type gpuReport struct {
	table
	Driver     string       `json:"driver"`
	Injections []*injection `json:"injections"`
	Hook       []*injection `json:"hook"`
}

// injection is what a request costs, in milliseconds, as medians.
type injection struct {
	Name    string  `json:"name"`
	N       int     `json:"n"`
	Without float64 `json:"without"` // a container that asks for nothing
	With    float64 `json:"with"`
	// Added are the differences of each round, Runtime the part that the OCI
	// runtime takes for the same mounts and nodes, Shim the rest.
	Added       float64    `json:"added"`
	AddedSpread [2]float64 `json:"added_spread"` // the middle 80 %
	Runtime     float64    `json:"runtime"`
	Shim        float64    `json:"shim"`
	ShimSpread  [2]float64 `json:"shim_spread"`

	without, with, added, runtime, shim []float64
}

// injection is the one of that name, a new one if need be.
func (g *gpuReport) injection(name string) *injection { return named(&g.Injections, name) }

func named(list *[]*injection, name string) *injection {
	for _, i := range *list {
		if i.Name == name {
			return i
		}
	}
	i := &injection{Name: name}
	*list = append(*list, i)
	return i
}

// add takes the sample of a round.
func (i *injection) add(without, with, runtime time.Duration) {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	i.without = append(i.without, ms(without))
	i.with = append(i.with, ms(with))
	i.added = append(i.added, ms(with-without))
	i.runtime = append(i.runtime, ms(runtime))
	i.shim = append(i.shim, ms(with-without-runtime))
}

func (i *injection) sum() {
	for _, samples := range [][]float64{i.without, i.with, i.added, i.runtime, i.shim} {
		slices.Sort(samples)
	}
	i.N, i.Without, i.With, i.Runtime = len(i.with), at(i.without, 0.5), at(i.with, 0.5), at(i.runtime, 0.5)
	i.Added, i.AddedSpread = at(i.added, 0.5), [2]float64{at(i.added, 0.1), at(i.added, 0.9)}
	i.Shim, i.ShimSpread = at(i.shim, 0.5), [2]float64{at(i.shim, 0.1), at(i.shim, 0.9)}
}

func (g *gpuReport) print(out io.Writer) error {
	fmt.Fprintf(out, "\ngpu shim beside the pod shim, no container asking for a GPU if not said; %s\n\n", g.Driver)
	if err := g.table.print(out); err != nil {
		return err
	}
	fmt.Fprint(out, "\ninjection in ms; of what is added, the runtime's part and the shim's\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tn\twithout\twith\tadded\t10%-90%\truntime\tshim\t10%-90%\t")
	for _, i := range g.Injections {
		i.sum()
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", i.Name, i.N, number(i.Without), number(i.With),
			number(i.Added), spread(i.AddedSpread), number(i.Runtime), number(i.Shim), spread(i.ShimSpread))
	}
	for _, i := range g.Hook {
		i.sum()
		fmt.Fprintf(w, "%s\t%d\t\t\t%s\t%s\t\t%s\t%s\t\n", i.Name, i.N, number(i.Added), spread(i.AddedSpread), number(i.Shim), spread(i.ShimSpread))
	}
	return w.Flush()
}
