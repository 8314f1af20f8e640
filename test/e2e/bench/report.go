// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is all results, the shim's and the control's.
type report struct {
	Kernel  string `json:"kernel"`
	CPUs    int    `json:"cpus"`
	Go      string `json:"go"`
	Commit  string `json:"commit"` // that the measured shim was built from, as its -v says
	Date    string `json:"date"`
	Runtime string `json:"runtime"`
	Control string `json:"control"`
	Shim    string `json:"shim"`
	table
	Node *table     `json:"node,omitempty"` // one shim for all pods
	GPU  *gpuReport `json:"gpu,omitempty"`
}

// table collects samples by name.
type table struct {
	Sides []string `json:"sides"` // the control's is the last
	Rows  []*row   `json:"rows"`
}

// row is one measured quantity.
type row struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	N      int     `json:"n"` // samples of each side
	Values []value `json:"values"`

	samples [][]float64
}

// value is what one side has.
type value struct {
	Median float64    `json:"median"`
	Spread [2]float64 `json:"spread"` // the middle 80 %
	Ratio  float64    `json:"ratio"`  // of the medians, to the control's
}

func newReport(o options) *report {
	r := &report{
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Date: time.Now().UTC().Format(time.DateOnly),
		Kernel: "unknown", Commit: lineWith("Revision", o.shim, "-v"),
		Runtime: firstLine(o.runtime, "--version"), Control: "containerd-shim-runc-v2 " + lineWith("Version", o.control, "-v") + size(o.control), Shim: filepath.Base(o.shim) + size(o.shim),
	}
	for _, s := range o.sides() {
		r.Sides = append(r.Sides, s.name)
	}
	if o.nodePods > 0 {
		r.Node = &table{Sides: []string{"one shim", "control"}}
	}
	if o.gpu != "" {
		r.GPU = &gpuReport{table: table{Sides: []string{"gpu", "pod"}}}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		r.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return r
}

// firstLine of a command's output, "unknown" if it fails.
func firstLine(command string, args ...string) string { return lineWith("", command, args...) }

func lineWith(word, command string, args ...string) string {
	out, err := exec.Command(command, args...).Output()
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), word+":"))
		}
	}
	return "unknown"
}

// size tells a stripped build without gRPC, which containerd releases, from
// another: the control's memory depends on it.
func size(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (%d bytes)", info.Size())
}

func (t *table) time(name string, which int, d time.Duration) {
	t.add(name, "ms", which, float64(d)/float64(time.Millisecond))
}

func (t *table) memory(name string, which, kib int) { t.add(name, "KiB", which, float64(kib)) }

func (t *table) add(name, unit string, which int, value float64) {
	r := t.row(name)
	if r == nil {
		r = &row{Name: name, Unit: unit, samples: make([][]float64, len(t.Sides))}
		t.Rows = append(t.Rows, r)
	}
	r.samples[which] = append(r.samples[which], value)
}

// row is the one of that name, or nil.
func (t *table) row(name string) *row {
	for _, r := range t.Rows {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// sum computes each row's medians.
func (t *table) sum() error {
	for _, row := range t.Rows {
		row.N, row.Values = len(row.samples[0]), nil
		for which, samples := range row.samples {
			if len(samples) == 0 {
				return fmt.Errorf("%s was not measured for %s", row.Name, t.Sides[which])
			}
			slices.Sort(samples)
			row.N = min(row.N, len(samples))
			row.Values = append(row.Values, value{Median: at(samples, 0.5), Spread: [2]float64{at(samples, 0.1), at(samples, 0.9)}})
		}
		control := row.Values[len(row.Values)-1].Median
		for i := range row.Values {
			row.Values[i].Ratio = row.Values[i].Median / control
		}
	}
	return nil
}

// at is the quantile of sorted samples.
func at(sorted []float64, q float64) float64 {
	place := q * float64(len(sorted)-1)
	low := int(place)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (place-float64(low))*(sorted[high]-sorted[low])
}

func (r *report) print(out io.Writer) error {
	fmt.Fprintf(out, "Linux %s, %d CPUs, %s; %s; commit %s\nshim: %s\ncontrol: %s\n\n", r.Kernel, r.CPUs, r.Go, r.Runtime, r.Commit, r.Shim, r.Control)
	if err := r.table.print(out); err != nil {
		return err
	}
	if err := printTargets(out, &r.table); err != nil {
		return err
	}
	if r.Node != nil {
		fmt.Fprint(out, "\nall pods in one shim\n\n")
		if err := errors.Join(r.Node.print(out), printTargets(out, r.Node)); err != nil {
			return err
		}
	}
	if r.GPU == nil {
		return nil
	}
	return r.GPU.print(out)
}

// print computes the medians and shows them.
func (t *table) print(out io.Writer) error {
	if err := t.sum(); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	last := len(t.Sides) - 1
	fmt.Fprint(w, "\tunit\tn\t")
	for _, side := range t.Sides[:last] {
		fmt.Fprintf(w, "%s\t10%%-90%%\tratio\t", side)
	}
	fmt.Fprintf(w, "%s\t10%%-90%%\t\n", t.Sides[last])
	for _, row := range t.Rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t", row.Name, row.Unit, row.N)
		for _, v := range row.Values[:last] {
			fmt.Fprintf(w, "%s\t%s\t%.2f\t", number(v.Median), spread(v.Spread), v.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t\n", number(row.Values[last].Median), spread(row.Values[last].Spread))
	}
	return w.Flush()
}

func number(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func spread(v [2]float64) string { return number(v[0]) + "-" + number(v[1]) }

// save writes the report as JSON; no path, no file.
func (r *report) save(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
