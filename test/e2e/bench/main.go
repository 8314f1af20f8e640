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
	command                           bool
	check, onlyGPU                    bool
	soakExecs, soakLives, nodePods    int
}

func run(ctx context.Context, args []string, out io.Writer) (retErr error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.shim, "shim", "", "path of the shim")
	flags.StringVar(&o.control, "control", "", "path of containerd-shim-runc-v2")
	flags.StringVar(&o.gpu, "gpu", "", "path of the gpu shim, to compare with the shim; without it that is left out")
	flags.BoolVar(&o.onlyGPU, "only-gpu", false, "measure the gpu shim alone")
	flags.StringVar(&o.runtime, "runtime", "", "path of runc, for the control, and with -command for the shims")
	flags.BoolVar(&o.command, "command", false, "have the shims run runc, and not its library")
	flags.StringVar(&o.json, "json", "", "also write the results to this file")
	flags.IntVar(&o.rounds, "rounds", 30, "lives of a container to measure for each shim")
	flags.IntVar(&o.pods, "pods", 50, "pods at once")
	flags.IntVar(&o.clients, "clients", 16, "clients that exec at once")
	flags.BoolVar(&o.check, "check", false, "measure memory and size alone and fail beyond the budget")
	flags.IntVar(&o.soakExecs, "soak-execs", 0, "run so many execs in one container, and fail if the shim grows")
	flags.IntVar(&o.soakLives, "soak-containers", 0, "run so many containers in one pod, and fail if the shim grows")
	flags.IntVar(&o.nodePods, "node-pods", 0, "measure the memory of so many pods under one shim alone")
	if err := flags.Parse(args); err != nil {
		return err
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
	if o.nodePods > 0 {
		return b.nodeMemory(ctx, out, o.nodePods)
	}
	if o.soakExecs > 0 || o.soakLives > 0 {
		return b.soak(ctx, out)
	}
	return b.run(ctx, out)
}
