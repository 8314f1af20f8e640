// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"strings"
	"testing"
)

// A guest that writes more to its console than is read at once is slowed down
// there and nowhere else, and nothing of what it writes is lost.
func TestConsoleFlood(t *testing.T) {
	r := newRig(t)
	g := r.up(r.config())
	text := strings.Repeat("0123456789abcdef", 4*tailReads/16)
	g.tell("write", "/dev/ttyS0", text)
	if got := g.status(); got != "running" {
		t.Errorf("QEMU says that the machine is %s", got)
	}
	if answer := g.line(); !strings.HasPrefix(answer, "ok ") {
		t.Errorf("the guest says %q", answer)
	}
	// The last of it is still in the guest's terminal.
	if !bytes.Contains(g.Console(), []byte(text[:3*tailReads])) {
		t.Errorf("the console has %d bytes, not all that was written", len(g.Console()))
	}
}
