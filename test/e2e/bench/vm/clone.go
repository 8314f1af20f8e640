// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
)

// clones measures machines that are cloned from a template. There are none yet.
func (b *bench) clones(context.Context) error {
	for _, name := range []string{cloneBoot, cloneCall, strings.ReplaceAll(monitorMemory, "%s", "a clone")} {
		b.report.missing(name, "not available: the shim has no templates yet")
	}
	return nil
}
