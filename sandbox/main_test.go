// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"testing"

	"berth/process/native"
	"berth/test/fakeoci"
	"berth/test/leak"
)

// fakeRuntime is the path of the fake OCI runtime, built before any
// supervisor reaps what it does not know.
var fakeRuntime string

func TestMain(m *testing.M) {
	if native.IsInit(os.Args) {
		native.Init()
	}
	dir, err := os.MkdirTemp("", "berth-sandbox-*")
	if err == nil {
		fakeRuntime, err = fakeoci.Compile(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := leak.Main(m)
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
