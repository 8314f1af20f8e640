// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// label names a process by what it ran last, in words that tell roles apart.
func (p *process) label() string {
	if len(p.execs) == 0 {
		return "(fork)"
	}
	for i := len(p.execs) - 1; i >= 0; i-- {
		if a := p.execs[i].args; len(a) > 0 {
			return name(a)
		}
	}
	return "(gone too soon to be named)"
}

// verbs tell the roles of shims and of runc apart.
var verbs = []string{"start", "delete", "create", "exec", "init", "kill", "state"}

func name(args []string) string {
	base := filepath.Base(args[0])
	if base == "exe" { // what a program calls itself that runs itself again
		base = "runc"
	}
	for _, arg := range args[1:] {
		for _, verb := range verbs {
			if arg == verb {
				return base + " " + verb
			}
		}
	}
	if base == "payload" && len(args) > 1 {
		return "container: payload " + args[1]
	}
	return base
}

// explain prints each span, and how much of it the processes that were begun in
// the phase run; the rest is the shim's own work and the way to it and back.
func explain(out io.Writer, title string, phases []*phase) error {
	fmt.Fprintf(out, "%s\n\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tcall\tms\tof it some process of the call runs\tthe shim alone\twhich\t")
	for _, p := range phases {
		for _, s := range p.spans {
			var which []string
			var inside []interval
			for _, proc := range p.processes {
				if !proc.within(s) {
					continue
				}
				in := interval{max(proc.begin, s.begin), min(proc.end, s.end)}
				inside = append(inside, in)
				which = append(which, fmt.Sprintf("%s %s", proc.label(), ms(in.to-in.from)))
			}
			covered := union(inside)
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", p.name, s.name, ms(s.end-s.begin), ms(covered), ms(s.end-s.begin-covered), strings.Join(which, ", "))
		}
		fmt.Fprintf(w, "%s\tall\t%s\t\t\t\t\n", p.name, ms(p.took()))
	}
	return w.Flush()
}

// within tells whether a process does part of a span's work: it began in it, and
// ended.
func (p *process) within(s span) bool {
	return p.begin >= s.begin && p.begin < s.end && p.end != 0 && p.end-p.begin < s.end-s.begin+time.Second
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

type interval struct{ from, to time.Duration }

// union is the time that intervals cover, which are in order of their begin.
func union(list []interval) (covered time.Duration) {
	var until time.Duration
	for _, i := range list {
		from := max(i.from, until)
		if i.to > from {
			covered += i.to - from
			until = i.to
		}
	}
	return covered
}
