// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/mps"
)

// withMPS adds to a request what annotation berth.dev/mps asks for. The pod's
// annotation holds for those of its containers that have a GPU; one for a
// container by name, or of a container in no pod, is wrong without.
func withMPS(r *Request, spec *specs.Spec) (*Request, error) {
	kind, pod := spec.Annotations[criContainerType]
	key, value, ok := asking{spec: spec}.annotation("mps")
	if !ok || value == "none" || kind == "sandbox" {
		return r, nil
	}
	source := "annotation " + boundedText(key)
	ask, err := mps.ParseAsk(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	switch {
	case r != nil && r.Edited:
		return nil, fmt.Errorf("%s: containerd has put the devices into the specification (%s), and whose they are is not known here: ask for the GPU by berth.dev/gpu or berth.dev/mig: %w",
			source, r.Asked, errdefs.ErrInvalidArgument)
	case r != nil && (len(r.Devices) > 0 || r.Slices != nil):
	case pod && !strings.HasSuffix(key, "."+spec.Annotations[criContainerName]):
		return r, nil
	default:
		return nil, fmt.Errorf("%s: the container asks for no GPU to share: add berth.dev/gpu or berth.dev/mig: %w", source, errdefs.ErrInvalidArgument)
	}
	if r.Capabilities&Compute == 0 {
		return nil, fmt.Errorf("%s: it serves CUDA, and the container's capabilities are %s: add compute: %w", source, r.Capabilities, errdefs.ErrInvalidArgument)
	}
	r.MPS = &ask
	return r, nil
}
