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

// What is measured.
const (
	coldBoot   = "cold boot to first output"
	cloneBoot  = "template clone to first output"
	cloneCall  = "first call of a clone"
	cloneWhole = "clone with all its devices"
	booted     = "a machine that was booted, with one"
	bareClone  = "a clone that idles"
	cloned     = "a clone with a container that idles"
	monitor    = "private memory of the monitor of %s"
	code       = "of that translated code, of %s"
	guest      = "of that the guest's, of %s"
	helpers    = "PSS of shim and virtiofsd of %s"
	execTrip   = "exec round trip"
	cachedExec = "exec round trip, share_cache = always"
	clonedExec = "exec round trip in a clone"
	stdout     = "stdout, written in pieces of %d KiB"
	death      = "death of the monitor to exit event"
)

// goals are those that the project has set itself, on two cores with TCG.
var goals = map[string]goal{
	coldBoot:                        {"ms", 5000, false},
	cloneBoot:                       {"ms", 1000, false},
	cloneCall:                       {"ms", 200, false},
	cloneWhole:                      {"ms", 0, false},
	fmt.Sprintf(monitor, bareClone): {"MiB", 48, false},
	fmt.Sprintf(code, bareClone):    {"MiB", 0, false},
	fmt.Sprintf(guest, bareClone):   {"MiB", 0, false},
	fmt.Sprintf(monitor, cloned):    {"MiB", 0, false},
	fmt.Sprintf(monitor, booted):    {"MiB", 0, false},
	fmt.Sprintf(code, cloned):       {"MiB", 0, false},
	fmt.Sprintf(code, booted):       {"MiB", 0, false},
	fmt.Sprintf(guest, cloned):      {"MiB", 0, false},
	fmt.Sprintf(guest, booted):      {"MiB", 0, false},
	fmt.Sprintf(helpers, cloned):    {"MiB", 12, false},
	fmt.Sprintf(helpers, booted):    {"MiB", 12, false},
	execTrip:                        {"ms", 60, false},
	cachedExec:                      {"ms", 60, false},
	clonedExec:                      {"ms", 60, false},
	fmt.Sprintf(stdout, 64):         {"MB/s", 60, true},
	fmt.Sprintf(stdout, 4):          {"MB/s", 0, true},
	death:                           {"ms", 100, false},
}

// goal is what a median is to be at most, or at least; 0 is for a number that is
// shown to be known.
type goal struct {
	unit  string
	bound float64
	least bool
}

func (g goal) String() string {
	switch {
	case g.bound == 0:
		return ""
	case g.least:
		return ">= " + number(g.bound)
	}
	return "<= " + number(g.bound)
}

func (g goal) verdict(v float64) string {
	switch {
	case g.bound == 0:
		return ""
	case g.least == (v >= g.bound) || v == g.bound:
		return "met"
	}
	return "MISSED"
}

// report is all results of a run.
type report struct {
	Accelerator string `json:"accelerator"`
	QEMU        string `json:"qemu"`
	Kernel      string `json:"kernel"`
	Guest       string `json:"guest_kernel"`
	CPUs        int    `json:"cpus"`
	Load        string `json:"load"` // when the run began, proc_loadavg(5)
	Commit      string `json:"commit"`
	Date        string `json:"date"`
	Rows        []*row `json:"rows"`
}

type row struct {
	Name    string     `json:"name"`
	Unit    string     `json:"unit"`
	N       int        `json:"n"`
	Median  float64    `json:"median"`
	Spread  [2]float64 `json:"spread"` // of the samples, the middle 80 %
	Goal    string     `json:"goal,omitempty"`
	Verdict string     `json:"verdict,omitempty"`

	samples []float64
}

func newReport(o options) *report {
	r := &report{CPUs: runtime.NumCPU(), Date: time.Now().UTC().Format(time.DateOnly)}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		r.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.Load, _, _ = strings.Cut(string(load), " ")
	}
	var image struct{ Release string }
	if data, err := os.ReadFile(filepath.Join(o.guest, "image.json")); err == nil && json.Unmarshal(data, &image) == nil {
		r.Guest = image.Release
	}
	if out, err := exec.Command(o.shim, "-v").Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			if _, revision, ok := strings.Cut(line, "Revision:"); ok {
				r.Commit = strings.TrimSpace(revision)
			}
		}
	}
	return r
}

// machine notes what runs the guests, by the monitor's own command line.
func (r *report) machine(vmm int) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", vmm))
	if err != nil {
		return
	}
	args := strings.Split(string(line), "\x00")
	if i := slices.Index(args, "-accel"); i >= 0 && i+1 < len(args) {
		r.Accelerator, _, _ = strings.Cut(args[i+1], ",") // its options follow
	}
	if out, err := exec.Command(args[0], "--version").Output(); err == nil {
		first, _, _ := strings.Cut(string(out), "\n")
		r.QEMU = strings.TrimPrefix(first, "QEMU emulator version ")
	}
}

func (r *report) time(name string, d time.Duration) {
	r.add(name, float64(d)/float64(time.Millisecond))
}

func (r *report) add(name string, value float64) {
	row := r.row(name)
	row.samples = append(row.samples, value)
}

// addMonitor adds what a monitor's memory is made of.
func (r *report) addMonitor(own parts, what string) {
	for _, part := range []struct {
		name string
		kib  int
	}{{monitor, own.all}, {code, own.code}, {guest, own.guest}} {
		r.add(fmt.Sprintf(part.name, what), float64(part.kib)/1024)
	}
}

func (r *report) row(name string) *row {
	for _, row := range r.Rows {
		if row.Name == name {
			return row
		}
	}
	g := goals[name]
	r.Rows = append(r.Rows, &row{Name: name, Unit: g.unit, Goal: g.String()})
	return r.Rows[len(r.Rows)-1]
}

func (r *report) print(out io.Writer) error {
	accelerator := strings.ToUpper(r.Accelerator)
	if r.Accelerator == "tcg" {
		accelerator += " (emulated)"
	}
	fmt.Fprintf(out, "%s, QEMU %s, guest Linux %s, host Linux %s, %d CPUs, load %s; commit %s\n\n",
		accelerator, r.QEMU, r.Guest, r.Kernel, r.CPUs, r.Load, r.Commit)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tmedian\tunit\tgoal\t\tn\t10%-90%")
	for _, row := range r.Rows {
		slices.Sort(row.samples)
		row.N, row.Median = len(row.samples), at(row.samples, 0.5)
		row.Spread = [2]float64{at(row.samples, 0.1), at(row.samples, 0.9)}
		row.Verdict = goals[row.Name].verdict(row.Median)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s-%s\n", row.Name, number(row.Median), row.Unit, row.Goal, row.Verdict,
			row.N, number(row.Spread[0]), number(row.Spread[1]))
	}
	return w.Flush()
}

// at is the quantile of sorted samples.
func at(sorted []float64, q float64) float64 {
	place := q * float64(len(sorted)-1)
	low := int(place)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (place-float64(low))*(sorted[high]-sorted[low])
}

func number(v float64) string {
	if v >= 100 || v == float64(int(v)) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

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
