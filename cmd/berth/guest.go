// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"berth/sandbox/vm/image/build"
)

const guestUsage = `usage: berth guest build --agent FILE [--root DIR] [--release RELEASE] [--dir DIR]
       berth guest templates [wait|drop]
       berth guest prune [--dir DIR]

build makes what guests of the vm shim boot from: a kernel, and an initramfs with
the agent, the OCI runtime and the kernel's modules. templates lists what machines
are made as copies of, with wait once it is ready; drop lets go of it, and machines
that there are live on. prune removes what earlier builds have left, once it is ten
minutes old.

`

func runGuest(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	switch word(args, 0) {
	case "build":
		return buildGuest(args, stdout, stderr)
	case "prune":
		return pruneGuest(args, stdout, stderr)
	case "templates":
		switch word(args, 1) {
		case "", "wait":
			return listTemplates(ctx, stdout, word(args, 1) != "")
		case "drop":
			return dropTemplates(ctx)
		}
	}
	_, _ = io.WriteString(stderr, guestUsage)
	return errUsage
}

// pruneGuest names what it has removed, a line each.
func pruneGuest(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("berth guest prune", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", defaultGuest, "where the image is")
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil || flags.NArg() > 0 {
		_, _ = io.WriteString(stderr, guestUsage)
		return errUsage
	}
	removed, err := build.Prune(*dir, time.Now())
	for _, name := range removed {
		_, _ = fmt.Fprintln(stdout, name)
	}
	return err
}

// defaultGuest is where the image is, if nobody says.
const defaultGuest = "/var/lib/berth/guest"

func buildGuest(args []string, stdout, stderr io.Writer) error {
	var src build.Source
	flags := flag.NewFlagSet("berth guest build", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, guestUsage)
		flags.PrintDefaults()
	}
	flags.StringVar(&src.Root, "root", "/", "where the kernel package's boot and lib/modules are")
	flags.StringVar(&src.Release, "release", "", "which kernel, if there are several there")
	flags.StringVar(&src.Agent, "agent", "", "the program berth-agent")
	dir := flags.String("dir", defaultGuest, "where the image goes")
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage // it was said
	}
	if src.Agent == "" || flags.NArg() > 0 {
		flags.Usage()
		return errUsage
	}
	img, err := build.Build(*dir, src)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "Linux %s with %d modules\n%s\n%s\n", img.Release, len(img.Modules), img.Kernel, img.Initramfs)
	return err
}
