// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"berth/gpu/ledger"
	"berth/gpu/nvml"
)

// slots prints what is in each GPU that is in MIG mode: a column a memory
// slice, then whose each instance is, and what there is room for.
func slots(w io.Writer, list *nvml.MIGList) {
	for _, g := range list.GPUs {
		switch {
		case g.Error != nil:
			fmt.Fprintf(w, "\nMIG of GPU %s: %v\n", g.BusID, g.Error)
			for _, in := range g.Instances {
				fmt.Fprintf(w, "  on record  gi%d  %s at %d:%d  %s\n", in.GI, in.Profile, in.Place.Start, in.Place.Size, whose(in))
			}
			if g.LeftAlone != "" {
				fmt.Fprintf(w, "  left alone: %s\n", g.LeftAlone)
			}
			tornRecords(w, g)
			continue
		case g.Mode != nvml.MIGEnabled:
			continue
		}
		fmt.Fprintf(w, "\nMIG of GPU %d  [%s]\n", g.Index, row(g))
		for i, in := range g.Instances {
			fmt.Fprintf(w, "  %s  gi%d  %s at %d:%d  %s\n", letter(i), in.GI, in.Profile, in.Place.Start, in.Place.Size, whose(in))
		}
		if room := fits(g); g.LeftAlone != "" {
			fmt.Fprintf(w, "  left alone: %s\n", g.LeftAlone)
		} else if room != "" {
			fmt.Fprintf(w, "  room for %s\n", room)
		} else {
			fmt.Fprintln(w, "  full")
		}
		tornRecords(w, g)
	}
}

func tornRecords(w io.Writer, g nvml.MIGGPU) {
	for _, name := range g.Torn {
		fmt.Fprintf(w, "  warning: the record %s cannot be read; `berth gpu reclaim` judges it\n", name)
	}
}

func letter(i int) string { return string(rune('A' + i%26)) }

// row is a GPU's memory slices, each with the letter of its instance.
func row(g nvml.MIGGPU) string {
	cells := []byte(strings.Repeat(".", g.Slots))
	for i, in := range g.Instances {
		for k := in.Place.Start; k < in.Place.Start+in.Place.Size && k < len(cells); k++ {
			cells[k] = letter(i)[0]
		}
	}
	return string(cells)
}

func whose(in nvml.MIGInstance) string {
	if in.Owner == nil {
		return "not made by berth"
	}
	text := "for " + in.Owner.Namespace + "/" + in.Owner.Container
	if in.Owner.Pod != "" {
		text = "for the pod " + in.Owner.Namespace + "/" + in.Owner.Pod
	}
	switch {
	case in.State == "Idle":
		return "idle, kept until " + in.Until.Local().Format(time.TimeOnly) + "; was " + text
	case in.State != "Ready":
		text += ", " + in.State
	case in.Life != string(ledger.Served):
		text += ", " + or(in.Life, "which is gone")
	}
	return text
}

func fits(g nvml.MIGGPU) string {
	var out []string
	for _, f := range g.Fits {
		if f.Count > 0 {
			out = append(out, fmt.Sprintf("%d x %s", f.Count, f.Profile))
		}
	}
	return strings.Join(out, ", or ")
}
