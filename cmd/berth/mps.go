// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"berth/gpu"
	"berth/gpu/mps"
	"berth/process"
)

var errMPSLeft = errors.New("some MPS daemons could not be stopped; see above")

// daemons prints the MPS daemons of the host.
func daemons(w io.Writer, list []gpu.MPSStatus) {
	for _, d := range list {
		state := fmt.Sprintf("process %d", d.PID)
		switch {
		case d.State != mps.Ready:
			state = string(d.State)
		case !d.Alive:
			state = "ended"
		}
		fmt.Fprintf(w, "\nMPS of %s  [%s]  %s\n  on %s, for %s\n", d.Owner, state, d.Ask, strings.Join(d.Devices, ", "), or(strings.Join(d.Members, ", "), "no container"))
	}
}

// sweepMPS stops the MPS daemons that nobody uses.
func (c *gpuCommand) sweepMPS(dry bool) []mps.Action {
	sup := process.NewSupervisor()
	defer sup.Close()
	return gpu.NewMPS(c.conf, sup).Sweep(c.ctx, dry)
}

// mpsLeft is the error of a sweep that could not stop a daemon.
func mpsLeft(actions []mps.Action) error {
	if slices.ContainsFunc(actions, func(a mps.Action) bool { return a.Did == mps.Failed }) {
		return errMPSLeft
	}
	return nil
}

// printMPS prints what a sweep did.
func (c *gpuCommand) printMPS(actions []mps.Action, dry bool) error {
	if len(actions) == 0 {
		return nil
	}
	done := map[mps.Deed]string{mps.Kept: "kept", mps.Stopped: "stopped", mps.Failed: "left"}
	if dry {
		done[mps.Stopped] = "would be stopped"
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MPS DAEMON\tPROCESS\tDONE\tWHY")
	for _, a := range actions {
		owner, pid := a.Dir, "-"
		if a.Owner != nil {
			owner = a.Owner.String()
		}
		if a.PID != 0 {
			pid = fmt.Sprint(a.PID)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", owner, pid, done[a.Did], a.Why)
	}
	return t.Flush()
}
