// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Capability is a set of uses of a driver. Each stands for the files that it
// needs.
type Capability uint8

// The capabilities that NVIDIA_DRIVER_CAPABILITIES knows.
const (
	Compute  Capability = 1 << iota // CUDA and OpenCL
	Utility                         // nvidia-smi and NVML
	Graphics                        // OpenGL and Vulkan
	Video                           // the codec SDK
	Display                         // X
	NGX
	Compat32 // 32-bit copies of the libraries

	AllCapabilities     = Compute | Utility | Graphics | Video | Display | NGX | Compat32
	DefaultCapabilities = Compute | Utility
)

// capabilityNames is in the order of the bits.
var capabilityNames = [...]string{"compute", "utility", "graphics", "video", "display", "ngx", "compat32"}

// ParseCapabilities reads a list such as "compute,utility" or "all"; an empty
// one is DefaultCapabilities.
func ParseCapabilities(s string) (Capability, error) {
	var c Capability
	for name := range strings.SplitSeq(s, ",") {
		switch name = strings.TrimSpace(name); name {
		case "":
			continue
		case "all":
			c = AllCapabilities
			continue
		}
		bit := capability(name)
		if bit == 0 {
			return 0, fmt.Errorf("driver capability %.64q is not known; known are all, %s: %w",
				name, strings.Join(capabilityNames[:], ", "), errdefs.ErrInvalidArgument)
		}
		c |= bit
	}
	if c == 0 {
		c = DefaultCapabilities
	}
	return c, nil
}

func capability(name string) Capability {
	for i, n := range capabilityNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// String is the list that ParseCapabilities reads.
func (c Capability) String() string {
	var names []string
	for i, n := range capabilityNames {
		if c&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}
