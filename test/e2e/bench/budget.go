// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// The budget of an idle shim with one container.
const (
	mostAnonymousKiB = 3 << 10
	mostPSSRatio     = 0.6      // of the control's, beside one of it
	mostBytes        = 12 << 20 // of the stripped program
)

// check measures against the budget and fails beyond it.
func (b *bench) check(ctx context.Context, out io.Writer) error {
	info, err := os.Stat(b.options.shim)
	if err != nil {
		return err
	}
	f, err := b.launch(ctx, 1, 1)
	if err != nil {
		return err
	}
	all, err := f.settled(ctx)
	if err != nil {
		return err
	}
	shim, control := all[0][0], all[1][0]
	ratio := float64(shim.pss) / float64(control.pss)
	fmt.Fprintf(out, "idle shim with one container: anonymous %d KiB (budget %d), PSS %d KiB, %.2f of the control's %d (budget %.2f), RSS %d KiB; program %d bytes (budget %d)\n",
		shim.anonymous, mostAnonymousKiB, shim.pss, ratio, control.pss, mostPSSRatio, shim.rss, info.Size(), mostBytes)
	var over []error
	for _, limit := range []struct {
		broken bool
		what   string
	}{
		{shim.anonymous == 0 || control.pss == 0, "nothing was measured"},
		{shim.anonymous > mostAnonymousKiB, "anonymous memory is over budget"},
		{ratio > mostPSSRatio, "PSS is over budget"},
		{info.Size() > mostBytes, "the program is over budget"},
	} {
		if limit.broken {
			over = append(over, errors.New(limit.what))
		}
	}
	return errors.Join(slices.Concat(over, []error{f.down(ctx), b.clean()})...)
}
