// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// smiVariable names a ready binary, for a machine without the go command.
const smiVariable = "BERTH_FAKESMI"

// BuildSMI compiles the fake nvidia-smi into dir and returns its path, for [Config].SMI. The
// go command's cache makes all but the first build cheap; a test binary does it once. The
// binary that the environment variable BERTH_FAKESMI names is taken instead.
func BuildSMI(dir string) (string, error) {
	if ready := os.Getenv(smiVariable); ready != "" {
		return ready, nil
	}
	bin := filepath.Join(dir, "nvidia-smi")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", bin, "berth/test/fakedriver/smi")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static: it also runs in an empty rootfs
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the fake nvidia-smi: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return bin, nil
}
