// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// row is one test: its verdict for the shim, for the control, and in machines.
type row struct {
	name              string
	own               bool
	shim, control, vm verdict
}

// table prints rows as they come and remembers what is wrong.
type table struct {
	options  options
	out      io.Writer
	rows     []row
	problems []string
	shown    map[string]bool // outputs printed already, by test
}

func newTable(o options, out io.Writer) *table {
	t := &table{options: o, out: out, shown: map[string]bool{}}
	control := "no control"
	if o.control != "" {
		control = filepath.Base(o.control)
	}
	fmt.Fprintf(out, "%-58s %-6s %-8s%s\n", "test", short(filepath.Base(o.shim)), short(control), t.column(short(filepath.Base(o.vm))))
	return t
}

// short leaves of "containerd-shim-pod-v2" what tells it apart.
func short(name string) string {
	return strings.TrimSuffix(strings.TrimPrefix(name, "containerd-shim-"), "-v2")
}

func (t *table) wanted(name string) bool { return strings.Contains(name, t.options.only) }

// column is what a line has in the column of the vm shim, if there is one.
func (t *table) column(text string) string {
	if t.options.vm == "" {
		return ""
	}
	return fmt.Sprintf(" %-6s", text)
}

// add prints a row with its note and, after a failure, the output.
func (t *table) add(r row, o outcomes) {
	t.rows = append(t.rows, r)
	problem := r.problem(t.options.control != "", t.options.long)
	var notes []string
	if problem != "" {
		notes = append(notes, "<-- "+problem)
	} else if note := r.note(); note != "" {
		notes = append(notes, note)
	}
	if o.shim != nil && o.shim.left != "" && r.shim == leak {
		notes = append(notes, "[left: "+o.shim.left+"]")
	}
	vmProblem := ""
	if t.options.vm != "" {
		if vmProblem = r.vmProblem(); vmProblem != "" {
			notes = append(notes, "<-- vm: "+vmProblem)
			if o.vm != nil && o.vm.left != "" {
				notes = append(notes, "[left: "+o.vm.left+"]")
			}
		} else if note := r.vmNote(); note != "" {
			notes = append(notes, "vm: "+note)
		}
	}
	for _, p := range []string{problem, vmProblem} {
		if p != "" {
			t.problems = append(t.problems, r.name+": "+p)
		}
	}
	fmt.Fprintf(t.out, "%-58s %-6s %-8s%s %s\n", r.name, r.shim, r.control, t.column(r.vm.String()), strings.Join(notes, "; "))
	if problem != "" || t.options.verbose && r.shim < leak {
		t.show(r.name, "shim", o.shim)
	}
	if t.options.verbose && r.control < leak {
		t.show(r.name, "control", o.control)
	}
	if vmProblem != "" || t.options.verbose && r.vm < leak {
		t.show(r.name, "vm", o.vm)
	}
}

// show prints the output of a test, its end if it is long, once.
func (t *table) show(name, whose string, o *outcome) {
	const most = 12 << 10
	if o == nil {
		return // it was not run
	}
	key := whose + o.output
	if t.shown[key] {
		return
	}
	t.shown[key] = true
	text := o.output
	if len(text) > most {
		text = "[...]" + text[len(text)-most:]
	}
	fmt.Fprintf(t.out, "---- output of %s, %s\n%s\n----\n", name, whose, strings.TrimSpace(text))
}

// problem says why the row makes the run a failure; "" if it does not.
func (r row) problem(controlled, long bool) string {
	switch {
	case r.shim == missing:
		return "did not run"
	case r.own && r.shim == skip && (long || !takesMinutes[r.name]):
		return "skipped"
	case r.own && r.shim < skip:
		return "must pass"
	case !r.own && !controlled && r.shim < skip:
		return "fails, and there is no control to compare with"
	case !r.own && controlled && r.shim < r.control:
		return "the control does better"
	}
	return ""
}

// note says what is remarkable about the control's verdict.
func (r row) note() string {
	why, known := knownOfControl[r.name]
	switch {
	case known && r.control < skip && r.control != missing:
		return "known of the control: " + why
	case known && r.control == pass:
		return "known of the control and not seen here: " + why
	case r.own && r.control < skip && r.control != missing:
		return "new: not in the list of what is known of the control"
	case !r.own && r.shim < skip && r.control <= r.shim && failsEverywhere[r.name] != "":
		return failsEverywhere[r.name]
	case !r.own && r.shim > r.control && r.control != missing:
		return "better than the control"
	}
	return ""
}

// judge prints the counts and what was left out, and returns the run's error.
func (t *table) judge() error {
	counts := map[string]int{}
	for _, r := range t.rows {
		counts["shim "+r.shim.String()]++
		counts["control "+r.control.String()]++
		counts["vm "+r.vm.String()]++
	}
	ran := counts["shim pass"] + counts["shim leak"]
	fmt.Fprintf(t.out, "\n%d tests. %s: %d pass, %d leak, %d skip, %d fail, %d hang.", len(t.rows), short(filepath.Base(t.options.shim)),
		counts["shim pass"], counts["shim leak"], counts["shim skip"], counts["shim FAIL"], counts["shim HANG"])
	if t.options.control != "" {
		fmt.Fprintf(t.out, " %s: %d pass, %d leak, %d skip, %d fail, %d hang.", short(filepath.Base(t.options.control)),
			counts["control pass"], counts["control leak"], counts["control skip"], counts["control FAIL"], counts["control HANG"])
	}
	if t.options.vm != "" {
		fmt.Fprintf(t.out, " %s: %d pass, %d leak, %d skip, %d fail, %d hang, %d not for it.", short(filepath.Base(t.options.vm)),
			counts["vm pass"], counts["vm leak"], counts["vm skip"], counts["vm FAIL"], counts["vm HANG"], counts["vm -"])
	}
	fmt.Fprintln(t.out)
	for _, what := range leftOut {
		fmt.Fprintln(t.out, "left out:", what)
	}
	if ran == 0 {
		return errors.New("not one test passed: nothing was tested")
	}
	if len(t.problems) > 0 {
		return fmt.Errorf("%d tests:\n  %s", len(t.problems), strings.Join(t.problems, "\n  "))
	}
	return nil
}
