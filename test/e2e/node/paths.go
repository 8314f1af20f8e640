// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Checkout returns the root of the source tree that the working directory is in.
func Checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find checkout: %w", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("find checkout: %w", err)
		}
		if line, _, _ := strings.Cut(string(data), "\n"); line == "module berth" {
			return dir, nil
		}
	}
	return "", errors.New("find checkout: the working directory is not in Berth's source tree")
}

// environ returns this process's environment with PATH starting with the checkout's
// programs, and with temporary files under tmp. Variables that tell a program about
// its own service manager are left out: they are not for these daemons.
func environ(checkout, tmp string) []string {
	path := strings.Join([]string{
		filepath.Join(checkout, "bin"),
		filepath.Join(checkout, ".tools", "bin"),
		os.Getenv("PATH"),
	}, ":")
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "PATH", "TMPDIR", "NOTIFY_SOCKET", "INVOCATION_ID", "LISTEN_FDS", "LISTEN_PID":
		default:
			env = append(env, v)
		}
	}
	return append(env, "PATH="+path, "TMPDIR="+tmp)
}

// program finds a program by the PATH that the node's processes get.
func (n *Node) program(name string) (string, error) {
	for _, dir := range []string{"bin", filepath.Join(".tools", "bin")} {
		file := filepath.Join(n.checkout, dir, name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	file, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w; run scripts/setup", err)
	}
	return file, nil
}
