// SPDX-License-Identifier: Apache-2.0

package native

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
)

// A container's process begins on one processor, and is told so before it runs.
func TestOneProcessor(t *testing.T) {
	b := newBox(t, "exit 0")
	p, err := b.tryCreate(nil)
	b.must(err)
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Pid()))
	b.must(err)
	if !slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return string(v) == "GOMAXPROCS=1" }) {
		t.Errorf("its environment is %q", env)
	}
	b.kill(p)
}
