// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
)

// initialised finds the packages in what the Go runtime says as it initialises
// them (package runtime, GODEBUG, inittrace).
var initialised = regexp.MustCompile(`(?m)^init (\S+) @`)

// early holds that a program becomes a container's process before the packages
// are initialised that only a shim needs: see scripts/runtime/overlay, which may
// come to nothing with another Go or other libraries.
func early(ctx context.Context, out io.Writer, program string) error {
	cmd := exec.CommandContext(ctx, program, "-v")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s -v: %w: %s", program, err, said)
	}
	var order []string
	for _, found := range initialised.FindAllSubmatch(said, -1) {
		order = append(order, string(found[1]))
	}
	at := slices.Index(order, "berth/process/native/become")
	if at < 0 {
		return errors.New("no process of a container is begun in the initialisation of packages")
	}
	fmt.Fprintf(out, "a container's process is begun after the initialisation of %d of %d packages\n", at, len(order))
	for _, heavy := range []string{"google.golang.org/protobuf/types/descriptorpb", "github.com/containerd/containerd/api/events", "github.com/opencontainers/go-digest"} {
		switch is := slices.Index(order, heavy); {
		case is < 0:
			err = errors.Join(err, fmt.Errorf("%s is not among them any more: look for another to hold", heavy))
		case is < at:
			err = errors.Join(err, fmt.Errorf("%s is initialised in each of a container's processes", heavy))
		}
	}
	return err
}
