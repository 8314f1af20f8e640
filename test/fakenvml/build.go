// SPDX-License-Identifier: Apache-2.0

package fakenvml

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed lib
var sources embed.FS

// SONAME is the library's name, which programs give the loader.
const SONAME = "libnvidia-ml.so.1"

// StateFile is the name of the state beside the library.
const StateFile = "fakenvml.state"

// Build compiles the library to dir/libnvidia-ml.so.1 and returns that path. It lacks the symbols
// named in without. It needs cc and the go command.
func Build(dir string, without ...string) (path string, retErr error) {
	header, err := headerDir()
	if err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp("", "fakenvml-")
	if err != nil {
		return "", fmt.Errorf("build fakenvml: %w", err)
	}
	defer func() { retErr = errors.Join(retErr, os.RemoveAll(tmp)) }()
	if err := os.CopyFS(tmp, sources); err != nil {
		return "", fmt.Errorf("build fakenvml: %w", err)
	}
	// A name in full wins over the pattern (ld, "VERSION Command").
	local := strings.Join(append(without, "*"), "; ")
	script := filepath.Join(tmp, "symbols")
	if err := os.WriteFile(script, []byte("{ global: nvml*; local: "+local+"; };\n"), 0o600); err != nil {
		return "", fmt.Errorf("build fakenvml: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(tmp, "lib", "*.c"))
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, SONAME)
	args := append([]string{"-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
		"-isystem", header, "-Wl,-soname," + SONAME, "-Wl,--version-script," + script, "-o", path}, files...)
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fakenvml: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return path, nil
}

// headerDir finds NVIDIA's nvml.h. The question is asked from this package's folder, since the
// module of the caller (test/e2e) does not import go-nvml.
func headerDir() (string, error) {
	here, err := goList("", "berth/test/fakenvml")
	if err != nil {
		return "", err
	}
	return goList(here, "github.com/NVIDIA/go-nvml/pkg/nvml")
}

func goList(dir, pkg string) (string, error) {
	cmd := exec.Command("go", "list", "-find", "-f", "{{.Dir}}", pkg)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", pkg, err)
	}
	return strings.TrimSpace(string(out)), nil
}
