// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"testing"

	"berth/test/fakeoci"
	"berth/test/leak"
	"berth/test/shelter"
)

// fakeRuntime is the path of the fake OCI runtime, built before any
// supervisor reaps what it does not know.
var fakeRuntime string

func TestMain(m *testing.M) {
	os.Exit(shelter.Main(func() int { return run(m) }))
}

// run is in a mount namespace of its own: what it mounts goes with it, however it ends.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-sandbox-*")
	if err == nil {
		fakeRuntime, err = fakeoci.Compile(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := leak.Main(m)
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}
