// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"berth/test/e2e/conformance/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-vm:", err)
		os.Exit(1)
	}
}

type options struct {
	shim, berth, guest, json, template string
	boots, execs                       int
}

func run(ctx context.Context, args []string, out io.Writer) (retErr error) {
	var o options
	flags := flag.NewFlagSet("bench-vm", flag.ContinueOnError)
	flags.StringVar(&o.shim, "shim", "", "path of containerd-shim-vm-v2")
	flags.StringVar(&o.berth, "berth", "", "path of berth")
	flags.StringVar(&o.guest, "guest", "", "directory of the guest image")
	flags.StringVar(&o.json, "json", "", "also write the results to this file")
	flags.StringVar(&o.template, "template", "cow", "how clones have their memory: cow or copy")
	flags.IntVar(&o.boots, "boots", 7, "machines to boot of each kind")
	flags.IntVar(&o.execs, "execs", 30, "execs to time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, path := range []*string{&o.shim, &o.berth, &o.guest} {
		if *path == "" || o.boots < 1 || o.execs < 1 {
			return errors.New("-shim, -berth, -guest and at least one boot and one exec are needed")
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	daemon.RegisterTypes()
	dir, err := os.MkdirTemp("", "bv")
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir, payload: filepath.Join(dir, "payload")}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", b.payload, "berth/test/e2e/conformance/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build payload: %w\n%s", err, out)
	}
	return b.run(ctx, out)
}
