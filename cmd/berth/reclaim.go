// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"text/tabwriter"

	"berth/gpu"
	"berth/gpu/mps"
	"berth/gpu/nvml"
	"berth/process"
)

var errLeft = errors.New("some MIG devices were left, since they are in use or their GPU cannot be reached; see above")

// mig has do make, list or take back MIG devices by this host's policy.
func (c *gpuCommand) mig(do func(m gpu.MIG) error) error {
	sup := process.NewSupervisor()
	defer sup.Close()
	return do(gpu.NewMIG(c.conf, sup))
}

// reclaim takes back the MIG devices whose owners are gone, and before them the
// MPS daemons, which may have them. What it cannot do of one keeps it from
// neither, and is said last.
func (c *gpuCommand) reclaim(args []string) error {
	f := flag.NewFlagSet("reclaim", flag.ContinueOnError)
	dry := f.Bool("dry-run", false, "say what would be done, and do nothing")
	idle := f.Bool("idle", false, "also those that are kept for the next container (mig.keep_idle)")
	f.BoolVar(&c.json, "json", false, "print JSON")
	if _, err := c.parse(f, args, "reclaim [--dry-run] [--idle] [--json]", 0); err != nil {
		return err
	}
	stopped := c.sweepMPS(*dry)
	report, err := c.sweepMIG(*dry, *idle)
	if err == nil && slices.ContainsFunc(report, left) {
		err = errLeft
	}
	if c.json {
		out := reclaimed{MIGReport: nvml.MIGReport{Actions: append([]nvml.MIGAction{}, report...)}, MPS: stopped}
		if err != nil {
			out.Error = err.Error()
		}
		return errors.Join(c.encode(out), mpsLeft(stopped), err)
	}
	all := errors.Join(c.printMPS(stopped, *dry), mpsLeft(stopped))
	if err == nil || errors.Is(err, errLeft) {
		all = errors.Join(all, c.printMIG(report, *dry))
	}
	return errors.Join(all, err)
}

// reclaimed is what `berth gpu reclaim --json` prints, also of half a sweep.
type reclaimed struct {
	nvml.MIGReport
	MPS []mps.Action `json:"mps,omitempty"`
	// Error is why the MIG devices were not swept, or that some were left.
	Error string `json:"error,omitempty"`
}

func (c *gpuCommand) sweepMIG(dry, idle bool) (report []nvml.MIGAction, err error) {
	err = c.mig(func(m gpu.MIG) error {
		if _, err := gpu.Discover(m.Roots); err != nil { // it says better than NVML that there is no driver
			return err
		}
		report, err = m.Sweep(c.ctx, dry, idle)
		return err
	})
	return report, err
}

// left says that a device should have gone, and is there.
func left(a nvml.MIGAction) bool { return a.Did == nvml.Zombie || a.Did == nvml.Unreached }

// printMIG prints what became of the MIG devices.
func (c *gpuCommand) printMIG(actions []nvml.MIGAction, dry bool) error {
	if len(actions) == 0 {
		_, err := fmt.Fprintln(c.stdout, "there is no record of any MIG device")
		return err
	}
	done := map[nvml.Deed]string{nvml.Destroyed: "destroyed", nvml.Forgotten: "forgotten", nvml.Zombie: "left, in use", nvml.Kept: "kept", nvml.Unreached: "left"}
	if dry {
		done[nvml.Destroyed], done[nvml.Forgotten] = "would be destroyed", "would be forgotten"
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GPU\tINSTANCE\tAT\tOWNER\tSTATE\tDONE\tWHY")
	for _, a := range actions {
		gi, owner := "-", "-"
		if a.GI != nil {
			gi = fmt.Sprintf("gi%d", *a.GI)
		}
		if a.Owner != nil {
			owner = a.Owner.Namespace + "/" + a.Owner.Container
		}
		fmt.Fprintf(t, "%s\t%s\t%d:%d\t%s\t%s\t%s\t%s\n", a.BusID, gi, a.Place.Start, a.Place.Size, owner, a.State, done[a.Did], a.Why)
	}
	return t.Flush()
}
