// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
)

// logger copies a container's stdout (descriptor 3) to the file that it is
// given, as a binary:// logger: descriptor 5 is closed when it is ready
// (containerd's docs/runtime-v2.md, "Logging"). For binary-v2:// readiness is a
// byte written there.
func logger(args []string, v2 bool) (int, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("logger: a file is needed")
	}
	out, err := os.Create(args[0])
	if err != nil {
		return 0, err
	}
	ready := os.NewFile(5, "ready")
	if v2 {
		if _, err := ready.Write([]byte{'1'}); err != nil {
			return 0, err
		}
	}
	if err := ready.Close(); err != nil {
		return 0, err
	}
	if _, err := io.Copy(out, os.NewFile(3, "stdout")); err != nil {
		return 0, err
	}
	return 0, out.Close()
}
