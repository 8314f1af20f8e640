// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"berth/test/e2e/conformance/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	shim, control, gpu, runtime, json string
	rounds, pods, clients             int
	check                             bool
	only                              string
	drivers                           string
	soakExecs, soakLives, nodePods    int
}

func run(ctx context.Context, args []string, out io.Writer) (retErr error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.shim, "shim", "", "path of the shim")
	flags.StringVar(&o.control, "control", "", "path of containerd-shim-runc-v2")
	flags.StringVar(&o.gpu, "gpu", "", "path of the gpu shim, to compare with the shim; without it that is left out")
	flags.StringVar(&o.only, "only", "", "measure these alone: lives, probes, crowd, execs, memory, node, gpu")
	flags.StringVar(&o.runtime, "runtime", "", "path of runc, for the control and the driver command")
	flags.StringVar(&o.json, "json", "", "also write the results to this file")
	flags.IntVar(&o.rounds, "rounds", 40, "samples of each quantity, and lives of a container, for each shim; 5 is quick")
	flags.StringVar(&o.drivers, "drivers", "native", "how the shim drives runc, each measured: native, command")
	flags.IntVar(&o.pods, "pods", 50, "pods at once")
	flags.IntVar(&o.clients, "clients", 16, "clients that exec at once")
	flags.BoolVar(&o.check, "check", false, "measure memory and size alone and fail beyond the budget")
	flags.IntVar(&o.soakExecs, "soak-execs", 0, "run so many execs in one container, and fail if the shim grows")
	flags.IntVar(&o.soakLives, "soak-containers", 0, "run so many containers in one pod, and fail if the shim grows")
	flags.IntVar(&o.nodePods, "node-pods", 0, "measure so many pods under one shim, group = \"node\", too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for name := range strings.SplitSeq(o.drivers, ",") {
		if name != "native" && name != "command" {
			return fmt.Errorf("driver %q is not known; there are native and command", name)
		}
	}
	for _, path := range []*string{&o.shim, &o.control, &o.runtime, &o.gpu} {
		if *path == "" && path == &o.gpu {
			continue
		}
		if *path == "" {
			return errors.New("-shim, -control and -runtime are needed")
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	daemon.RegisterTypes()
	b, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, b.close()) }()
	if o.check {
		return b.check(ctx, out)
	}
	if o.soakExecs > 0 || o.soakLives > 0 {
		return b.soak(ctx, out)
	}
	return b.measure(ctx, out)
}
