// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// The rows that have a target.
const (
	startUp       = "start-up total"
	execCycle     = "exec cycle"
	deleteCommand = "delete command"
	podsUp        = "pods up, all at once"
	probesCPU     = "CPU time of 1,000 execs"
	exitsAtOnce   = "exits per second"
	eachFurther   = "each further container: anonymous"
	nodePSS       = "all pods: PSS of all shims"
	idleName      = "%d idle, %d containers"
)

// target is what a row should come to: a ratio to the control's, or a number.
type target struct {
	row     string
	goal    float64
	ratio   bool
	atLeast bool // else at most
}

var targets = [...]target{
	{startUp, 0.55, true, false},
	{execCycle, 0.45, true, false},
	{"delete", 0.5, true, false},
	{deleteCommand, 5, false, false},
	{podsUp, 0.6, true, false},
	{probesCPU, 0.45, true, false},
	{exitsAtOnce, 2, true, true},
	{fmt.Sprintf(idleName, 1, 1) + ": PSS", 0.5, true, false},
	{fmt.Sprintf(idleName, 1, 1) + ": anonymous", 2560, false, false},
	{eachFurther, 150, false, false},
	{nodePSS, 0.05, true, false},
}

// of is what a side has reached.
func (t target) of(v value) (reached float64, met bool) {
	reached = v.Median
	if t.ratio {
		reached = v.Ratio
	}
	if t.atLeast {
		return reached, reached >= t.goal
	}
	return reached, reached <= t.goal
}

func (t target) String() string {
	word := "at most"
	if t.atLeast {
		word = "at least"
	}
	return fmt.Sprintf("%s %s", word, number(t.goal))
}

// printTargets says of each target whether it is reached.
func printTargets(out io.Writer, t *table) error {
	fmt.Fprint(out, "\ntargets: ratios to the control's, or what the unit says\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\tunit\tn\tgoal\t")
	for _, side := range t.Sides[:len(t.Sides)-1] {
		fmt.Fprintf(w, "%s\t\t", side)
	}
	fmt.Fprintln(w)
	for _, target := range targets {
		row := t.row(target.row)
		if row == nil {
			continue
		}
		unit := row.Unit
		if target.ratio {
			unit = "ratio"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t", row.Name, unit, row.N, target)
		for _, v := range row.Values[:len(row.Values)-1] {
			reached, met := target.of(v)
			verdict := "missed"
			if met {
				verdict = "met"
			}
			fmt.Fprintf(w, "%s\t%s\t", number(reached), verdict)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
