// SPDX-License-Identifier: Apache-2.0

// Command berth shows an operator what the shims of a host do, and why.
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

	"berth/configs"
)

// Set by the linker.
var version, revision = "devel", "unknown"

const usage = `usage: berth COMMAND

  berth gpu ls                   the GPUs of this host, who holds them, and whether they are healthy
  berth gpu explain BUNDLE|ID    what is, or would be, injected into a container, and why
  berth gpu clear GPU            let containers have a GPU again that an Xid has barred
  berth gpu reclaim [--dry-run]  take back MIG devices and MPS daemons whose containers are gone
  berth gpu metrics              the MIG devices in Prometheus' text format
  berth check                    how runc is driven here, and which version of its library the shims have
  berth guest build              make the image that guests of the vm shim boot from
  berth guest prune              remove what earlier builds of it have left
  berth guest templates [drop]   what guests are made as copies of; let go of it
  berth version

A command says more with --help.
`

// errUsage is a command line that is not understood; what is wrong was said.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "berth:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	switch word(args, 0) {
	case "gpu":
		return runGPU(ctx, args[1:], stdout, stderr)
	case "check":
		return runCheck(args[1:], stdout, stderr)
	case "guest":
		return runGuest(ctx, args[1:], stdout, stderr)
	case "version", "--version", "-v":
		_, err := fmt.Fprintf(stdout, "berth %s (%s)\n", version, revision)
		return err
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, usage)
		return err
	}
	_, _ = io.WriteString(stderr, usage)
	return errUsage
}

func runGPU(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	conf, err := configs.LoadGPU(configs.GPUPath(os.Getenv))
	if err != nil {
		return err
	}
	c := &gpuCommand{ctx: ctx, conf: conf, stdout: stdout, stderr: stderr}
	switch word(args, 0) {
	case "ls":
		return c.list(args[1:])
	case "explain":
		return c.explain(args[1:])
	case "clear":
		return c.clear(args[1:])
	case "reclaim":
		return c.reclaim(args[1:])
	case "metrics":
		return c.metrics(args[1:])
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, usage)
		return err
	}
	_, _ = io.WriteString(stderr, usage)
	return errUsage
}

func word(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}
