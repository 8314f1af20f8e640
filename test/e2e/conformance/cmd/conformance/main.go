// SPDX-License-Identifier: Apache-2.0

// Command conformance runs the upstream suites (github.com/containerd/shimtest) and the
// project's own against a shim and, in the same run, against the control shim,
// and prints a table. Its exit status is non-zero if the shim fails a test of
// the project's own, fails an upstream test that the control passes, or if
// nothing ran. With -vm the vm shim has a column, for which the same holds but
// for what a VM cannot do (guest.go).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var options options
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.StringVar(&options.shim, "shim", "", "path of the shim to test")
	flags.StringVar(&options.control, "control", "", "path of containerd-shim-runc-v2, the control (empty: none)")
	flags.StringVar(&options.runtime, "runtime", "", "path of runc, for the control, and with -command for the shim")
	flags.BoolVar(&options.command, "command", false, "have the shim run runc, and not its library")
	flags.StringVar(&options.vm, "vm", "", "path of containerd-shim-vm-v2, for a column of its own (empty: none)")
	flags.StringVar(&options.guest, "guest", "", "directory of the image that its guests boot from")
	flags.StringVar(&options.only, "run", "", "run only the tests whose name contains this")
	flags.DurationVar(&options.stress, "stress", 10*time.Second, "how long each upstream stress test runs; 0 leaves them out")
	flags.BoolVar(&options.long, "long", false, "also run the own tests that take minutes")
	flags.BoolVar(&options.verbose, "v", false, "print the output of every failed test, the control's too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return compare(ctx, options, out)
}
