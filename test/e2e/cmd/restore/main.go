// SPDX-License-Identifier: Apache-2.0

// Command restore makes a task from a directory that `ctr task checkpoint --image-path`
// wrote, which ctr itself cannot do, and leaves it running.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "restore:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("restore", flag.ContinueOnError)
	address := flags.String("address", "/run/containerd/containerd.sock", "containerd's socket")
	namespace := flags.String("namespace", "default", "containerd's namespace")
	image := flags.String("image-path", "", "directory of the checkpoint")
	work := flags.String("work-path", "", "directory for CRIU's logs; empty for the shim's choice")
	output := flags.String("output", "/dev/null", "file to append the container's output to")
	start := flags.Bool("start", true, "start the task; a checkpoint is not read before")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || *image == "" {
		return errors.New("usage: restore -image-path DIRECTORY [FLAG]... CONTAINER")
	}
	client, err := containerd.New(*address, containerd.WithDefaultNamespace(*namespace))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx = namespaces.WithNamespace(ctx, *namespace)
	container, err := client.LoadContainer(ctx, flags.Arg(0))
	if err != nil {
		return err
	}
	task, err := container.NewTask(ctx, cio.LogFile(*output),
		containerd.WithRestoreImagePath(*image), containerd.WithRestoreWorkPath(*work))
	if err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	if !*start {
		return nil
	}
	if err := task.Start(ctx); err != nil {
		_, deleted := task.Delete(ctx)
		return errors.Join(fmt.Errorf("start task: %w", err), deleted)
	}
	fmt.Fprintln(stdout, task.Pid())
	return nil
}
