// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
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
	GPU *gpuReport `json:"gpu,omitempty"`
}

// table collects samples by name.
type table struct {
	Rows []*row `json:"rows"`
}

// row is one measured quantity.
type row struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	N       int     `json:"n"` // samples of each shim
	Shim    float64 `json:"shim"`
	Control float64 `json:"control"`
	Ratio   float64 `json:"ratio"` // of the medians
	// Of the samples of each, the middle 80 %.
	ShimSpread    [2]float64 `json:"shim_spread"`
	ControlSpread [2]float64 `json:"control_spread"`

	samples [2][]float64
}

func newReport(o options) *report {
	r := &report{
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Date: time.Now().UTC().Format(time.DateOnly),
		Kernel: "unknown", Commit: lineWith("Revision", o.shim, "-v"),
		Runtime: firstLine(o.runtime, "--version"), Control: "containerd-shim-runc-v2 " + lineWith("Version", o.control, "-v") + size(o.control), Shim: filepath.Base(o.shim) + size(o.shim),
	}
	if o.gpu != "" {
		r.GPU = &gpuReport{}
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
	for _, row := range t.Rows {
		if row.Name == name {
			row.samples[which] = append(row.samples[which], value)
			return
		}
	}
	added := &row{Name: name, Unit: unit}
	added.samples[which] = []float64{value}
	t.Rows = append(t.Rows, added)
}

// sum computes each row's medians.
func (t *table) sum() error {
	for _, row := range t.Rows {
		for _, samples := range row.samples {
			if len(samples) == 0 {
				return fmt.Errorf("%s was measured for one shim only", row.Name)
			}
			slices.Sort(samples)
		}
		row.N = min(len(row.samples[0]), len(row.samples[1]))
		row.Shim, row.Control = at(row.samples[0], 0.5), at(row.samples[1], 0.5)
		row.Ratio = row.Shim / row.Control
		row.ShimSpread = [2]float64{at(row.samples[0], 0.1), at(row.samples[0], 0.9)}
		row.ControlSpread = [2]float64{at(row.samples[1], 0.1), at(row.samples[1], 0.9)}
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
	if err := r.table.print(out, "shim", "control"); err != nil || r.GPU == nil {
		return err
	}
	return r.GPU.print(out)
}

// print computes the medians and shows them, with a word for each side.
func (t *table) print(out io.Writer, shim, control string) error {
	if err := t.sum(); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tunit\tn\t%s\t10%%-90%%\t%s\t10%%-90%%\tratio\t\n", shim, control)
	for _, row := range t.Rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%.2f\t\n", row.Name, row.Unit, row.N, number(row.Shim), spread(row.ShimSpread),
			number(row.Control), spread(row.ControlSpread), row.Ratio)
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
