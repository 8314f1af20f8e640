// SPDX-License-Identifier: Apache-2.0

// Command demo starts a private containerd, runs a container and a CRI pod under
// Berth's pod shim, a container in a virtual machine under its vm shim and one with a
// GPU under its gpu shim, prints each command with its output and time, and removes
// everything again, also when it fails or is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) (retErr error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	runtime := flags.String("runtime", node.PodRuntime, "runtime to show; "+node.RuncRuntime+" is the one to compare with")
	onlyGPU := flags.Bool("gpu", false, "show the container with a GPU alone")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d := newDemo(stdout, *runtime)
	if err := d.start(ctx); err != nil {
		return err
	}
	defer func() { retErr = d.stop(ctx, retErr) }()
	parts := []func(context.Context) error{d.container, d.longRunning, d.pod, d.vm, d.gpu}
	if *onlyGPU {
		parts = parts[4:]
	}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return errors.New("interrupted")
			}
			return fmt.Errorf("%w\ncontainerd's log ends with:\n%s", err, d.node.LogTail())
		}
	}
	return nil
}
