// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
)

// ShimPath is where the pod shim and the gpu shim look for the configuration
// of the host: /etc/berth/shim.toml, or the file that BERTH_SHIM_CONFIG names in
// the environment, which containerd hands on to its shims.
func ShimPath(getenv func(string) string) string {
	if path := getenv("BERTH_SHIM_CONFIG"); path != "" {
		return path
	}
	return "/etc/berth/shim.toml"
}

// Group is what one process of the pod shim serves.
type Group string

const (
	// PerPod is a shim for each pod.
	PerPod Group = "pod"
	// PerNode is one for all pods of a containerd's namespace.
	PerNode Group = "node"
)

// Driver is how runc is driven where the options name no runtime.
type Driver string

const (
	// Native calls the library of runc that is linked into the shim.
	Native Driver = "native"
	// Command runs the runc in PATH.
	Command Driver = "command"
)

// Shim is how the shims of a host do their work, whatever containerd says of a
// container.
type Shim struct {
	// Group concerns the pod shim alone.
	Group Group `toml:"group"`
	// Cgroup is where shims live whose runtime's options name no ShimCgroup;
	// empty is where containerd lives.
	Cgroup  string      `toml:"cgroup"`
	Runtime ShimRuntime `toml:"runtime"`
}

// ShimRuntime is about the OCI runtime.
type ShimRuntime struct {
	Driver Driver `toml:"driver"`
}

// DefaultShim is the configuration of a host without a file.
func DefaultShim() Shim { return Shim{Group: PerPod, Runtime: ShimRuntime{Driver: Native}} }

// LoadShim reads the configuration of the host's shims. What it does not mention
// has its default, and a file that is not there is all defaults. An error names
// the file and the line, and is errdefs.ErrInvalidArgument.
func LoadShim(path string) (Shim, error) {
	c := DefaultShim()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return Shim{}, fmt.Errorf("open the configuration of the shims: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(&c); err != nil {
		return Shim{}, fmt.Errorf("%s: %w: %w", path, describe(err), errdefs.ErrInvalidArgument)
	}
	if c.Group != PerPod && c.Group != PerNode {
		return Shim{}, fmt.Errorf("%s: group is %.64q; known are %s and %s: %w", path, c.Group, PerPod, PerNode, errdefs.ErrInvalidArgument)
	}
	if d := c.Runtime.Driver; d != Native && d != Command {
		return Shim{}, fmt.Errorf("%s: runtime.driver is %.64q; known are %s and %s: %w", path, d, Native, Command, errdefs.ErrInvalidArgument)
	}
	return c, nil
}
