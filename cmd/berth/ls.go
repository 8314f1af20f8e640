// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"berth/gpu"
	"berth/gpu/nvml"
)

// list is `berth gpu ls`.
func (c *gpuCommand) list(args []string) error {
	f := flag.NewFlagSet("ls", flag.ContinueOnError)
	f.BoolVar(&c.json, "json", false, "print JSON")
	if _, err := c.parse(f, args, "ls [--json]", 0); err != nil {
		return err
	}
	return c.plan(func(p *gpu.Planner) error {
		status, err := p.Status(c.ctx)
		if err != nil {
			return err
		}
		list, err := c.listMIG()
		if err != nil {
			status.Warnings = append(status.Warnings, err.Error())
		}
		if c.json {
			status.MIG = list
			return c.encode(status)
		}
		if err := c.table(status); err != nil {
			return err
		}
		slots(c.stdout, list)
		return nil
	})
}

// listMIG is what is in the GPUs that can do MIG. It is never nil.
func (c *gpuCommand) listMIG() (list *nvml.MIGList, err error) {
	err = c.mig(func(m gpu.MIG) (err error) { list, err = m.List(c.ctx); return err })
	if err != nil {
		return new(nvml.MIGList), err
	}
	return list, nil
}

func (c *gpuCommand) table(s *gpu.Status) error {
	fmt.Fprintf(c.stdout, "driver %s", s.DriverVersion)
	if s.CUDAVersion != "" {
		fmt.Fprintf(c.stdout, ", CUDA %s", s.CUDAVersion)
	}
	fmt.Fprintln(c.stdout)
	for _, w := range s.Warnings {
		fmt.Fprintf(c.stdout, "warning: %s\n", w)
	}
	if len(s.Devices) == 0 {
		_, err := fmt.Fprintln(c.stdout, "no GPU")
		return err
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INDEX\tUUID\tBUS ID\tNODE\tMODEL\tHEALTH\tHELD BY")
	for _, d := range s.Devices {
		index := strconv.Itoa(d.Index)
		if d.Excluded {
			index = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\tnvidia%d\t%s\t%s\t%s\n", index, or(d.UUID, "?"), d.BusID, d.Minor, d.Model, health(d), or(strings.Join(d.HeldBy, ", "), "-"))
		for _, m := range d.Instances {
			fmt.Fprintf(t, "%d:%d\t%s\t\tgi%d ci%d\t%s\t\t%s\n", d.Index, m.Index, or(m.UUID, "?"), m.GI, m.CI, m.Profile, or(strings.Join(m.HeldBy, ", "), "-"))
		}
	}
	return t.Flush()
}

func health(d gpu.DeviceStatus) string {
	switch {
	case d.Excluded:
		return "excluded"
	case d.Bar != nil:
		return fmt.Sprintf("barred (Xid %d)", d.Bar.Xid)
	case d.Error != nil:
		return d.Error.Code
	case d.MIGMode:
		return "ok, MIG mode"
	}
	return "ok"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
