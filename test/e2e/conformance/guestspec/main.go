// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "guestspec:", err)
		os.Exit(1)
	}
}

// run becomes the shim of the same name in the directory "behind".
func run(args []string) error {
	if at := slices.Index(args, "-id"); slices.Contains(args[1:], "start") && at >= 0 && at+1 < len(args) {
		if err := edit("config.json", args[at+1]); err != nil { // containerd starts a shim in the bundle
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	shim := filepath.Join(filepath.Dir(self), "behind", filepath.Base(self))
	return unix.Exec(shim, args, os.Environ())
}

// edit adds the namespaces that a container in a VM cannot do without, and a name
// for the cgroup of its machine by which it can be found if the test is killed.
func edit(path, id string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace} {
		if !slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind }) {
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
		}
	}
	if spec.Linux.CgroupsPath == "" {
		spec.Linux.CgroupsPath = "/berth/" + id
	}
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
