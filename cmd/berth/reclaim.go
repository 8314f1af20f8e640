// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"

	"berth/gpu"
	"berth/gpu/mps"
	"berth/gpu/nvml"
	"berth/process"
)

var errLeft = errors.New("some MIG devices are in use, and were left; see above")

// mig has do make, list or take back MIG devices by this host's policy.
func (c *gpuCommand) mig(do func(m gpu.MIG) error) error {
	sup := process.NewSupervisor()
	defer sup.Close()
	return do(gpu.NewMIG(c.conf, sup))
}

// reclaim takes back the MIG devices whose owners are gone, and before them the
// MPS daemons, which may have them.
func (c *gpuCommand) reclaim(args []string) error {
	f := flag.NewFlagSet("reclaim", flag.ContinueOnError)
	dry := f.Bool("dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&c.json, "json", false, "print JSON")
	if _, err := c.parse(f, args, "reclaim [--dry-run] [--json]", 0); err != nil {
		return err
	}
	stopped := c.sweepMPS(*dry)
	if !c.json {
		if err := c.reclaimedMPS(stopped, *dry); err != nil {
			return err
		}
	}
	return c.mig(func(m gpu.MIG) error {
		report, err := m.Sweep(c.ctx, *dry)
		if err != nil {
			return err
		}
		if c.json {
			return c.encode(struct {
				nvml.MIGReport
				MPS []mps.Action `json:"mps,omitempty"`
			}{nvml.MIGReport{Actions: report}, stopped})
		}
		return c.reclaimed(report, *dry)
	})
}

func (c *gpuCommand) reclaimed(actions []nvml.MIGAction, dry bool) error {
	if len(actions) == 0 {
		_, err := fmt.Fprintln(c.stdout, "there is no record of any MIG device")
		return err
	}
	done := map[nvml.Deed]string{nvml.Destroyed: "destroyed", nvml.Forgotten: "forgotten", nvml.Zombie: "left, in use", nvml.Kept: "kept"}
	if dry {
		done[nvml.Destroyed], done[nvml.Forgotten] = "would be destroyed", "would be forgotten"
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GPU\tINSTANCE\tAT\tOWNER\tSTATE\tDONE\tWHY")
	left := false
	for _, a := range actions {
		gi, owner := "-", "-"
		if a.GI != nil {
			gi = fmt.Sprintf("gi%d", *a.GI)
		}
		if a.Owner != nil {
			owner = a.Owner.Namespace + "/" + a.Owner.Container
		}
		left = left || a.Did == nvml.Zombie
		fmt.Fprintf(t, "%s\t%s\t%d:%d\t%s\t%s\t%s\t%s\n", a.BusID, gi, a.Place.Start, a.Place.Size, owner, a.State, done[a.Did], a.Why)
	}
	if err := t.Flush(); err != nil || !left {
		return err
	}
	return errLeft
}
