// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-vm-v2 is a containerd shim that runs each pod in a
// virtual machine of its own.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"berth/configs"
	"berth/hooks"
	"berth/sandbox/remote"
	"berth/sandbox/vm/jail"
	"berth/shim"
)

// Set by the linker.
var version, revision = "devel", "unknown"

func main() {
	if code, ok := other(os.Args); ok {
		os.Exit(code)
	}
	pods := &pods{load: func() (configs.VM, error) { return configs.LoadVM(configs.VMPath(os.Getenv)) }}
	parts := shim.Parts{
		Runtime: pods.runtime,
		Hooks:   func(shim.HooksConfig) hooks.Chain { return hooks.Chain{hooks.Sanity{}} },
	}
	types, transforms := remote.MountCapabilities()
	os.Exit(shim.Main(shim.Env{
		Args: os.Args, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Name: "containerd-shim-vm-v2", RuntimeType: "io.containerd.vm.v2",
		Version: version, Revision: revision,
		Serve: parts.Serve, Delete: parts.Delete, Features: guestFeatures, OwnMounts: true,
		MountTypes: types, MountTransforms: transforms,
	}))
}

// launchArg makes the program the launcher of a machine's programs: it puts
// itself in a jail and runs what is to be in there.
const launchArg = "enter-jail"

// other is what else this program can be than a shim.
func other(args []string) (code int, ok bool) {
	switch {
	case len(args) == 3 && args[1] == launchArg:
		return launch(args[2]), true
	case len(args) == 4 && args[1] == detachArg:
		return detach(args[0], args[2], args[3]), true
	case len(args) == 4 && args[1] == keepArg:
		return keep(args[2], args[3]), true
	}
	return 0, false
}

func launch(fd string) int {
	n, err := strconv.Atoi(fd)
	if err == nil {
		err = jail.Enter(n) // returns only if it cannot
	}
	fmt.Fprintln(os.Stderr, "enter the jail:", err)
	return 1
}

// guestFeatures is what the runtime in a guest can do for a container. Ids of
// mounts are mapped on the host, in what the guest shares.
func guestFeatures(context.Context, configs.Runtime) ([]byte, error) {
	yes := true
	return json.Marshal(features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: "1.2.0",
		MountOptions: []string{"bind", "rbind", "ro", "rro", "rw", "nodev", "nosuid", "noexec", "private", "rprivate", "slave", "rslave", "relatime", "noatime", "strictatime"},
		Linux: &features.Linux{
			Namespaces:      []string{"cgroup", "ipc", "mount", "pid", "user", "uts"},
			Cgroup:          &features.Cgroup{V2: &yes},
			Seccomp:         &features.Seccomp{Enabled: &yes},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
		},
	})
}
