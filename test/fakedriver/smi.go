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
	return compile(dir, "nvidia-smi", "berth/test/fakedriver/smi")
}

// BuildMPS compiles the fake MPS daemon and server, which are one program, into dir and returns
// its path, for [Config].MPS.
func BuildMPS(dir string) (string, error) {
	return compile(dir, "nvidia-cuda-mps-control", "berth/test/fakedriver/mps")
}

func compile(dir, name, pkg string) (string, error) {
	bin := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", bin, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static: it also runs in an empty rootfs
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the fake %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return bin, nil
}
