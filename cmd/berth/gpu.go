// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"berth/configs"
	"berth/gpu"
	"berth/process"
)

// gpuCommand is one run of `berth gpu`.
type gpuCommand struct {
	ctx            context.Context
	conf           configs.GPU
	stdout, stderr io.Writer
	json           bool
}

// parse reads a command's flags, and wants n arguments beside them. The flags
// may come after them.
func (c *gpuCommand) parse(f *flag.FlagSet, args []string, synopsis string, n int) ([]string, error) {
	f.SetOutput(c.stderr)
	f.Usage = func() {
		fmt.Fprintf(c.stderr, "usage: berth gpu %s\n", synopsis)
		f.PrintDefaults()
	}
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if err == flag.ErrHelp {
				return nil, err
			}
			return nil, errUsage
		}
		if f.NArg() == 0 {
			break
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
	if len(rest) != n {
		f.Usage()
		return nil, errUsage
	}
	return rest, nil
}

// plan has do plan with this host's policy.
func (c *gpuCommand) plan(do func(p *gpu.Planner) error) error {
	sup := process.NewSupervisor()
	defer sup.Close()
	p := gpu.NewPlanner(c.conf, sup)
	return do(&p)
}

func (c *gpuCommand) encode(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// clear takes the bar off one GPU.
func (c *gpuCommand) clear(args []string) error {
	f := flag.NewFlagSet("clear", flag.ContinueOnError)
	args, err := c.parse(f, args, "clear UUID|BUSID|INDEX", 1)
	if err != nil {
		return err
	}
	return c.plan(func(p *gpu.Planner) error {
		status, err := p.Status(c.ctx)
		if err != nil {
			return err
		}
		for _, d := range status.Devices {
			if !strings.EqualFold(d.UUID, args[0]) && d.BusID != args[0] && strconv.Itoa(d.Index) != args[0] {
				continue
			}
			if d.Bar == nil {
				_, err := fmt.Fprintf(c.stdout, "GPU %s is not barred\n", d.BusID)
				return err
			}
			if err := gpu.ClearBar(p.Roots, d.BusID); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.stdout, "GPU %s is no longer barred (it was by Xid %d)\n", d.BusID, d.Bar.Xid)
			return err
		}
		return fmt.Errorf("there is no GPU %.80q; see `berth gpu ls`: %w", args[0], errdefs.ErrNotFound)
	})
}
