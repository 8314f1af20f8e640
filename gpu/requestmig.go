// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"

	"github.com/containerd/errdefs"

	"berth/gpu/mig"
)

// SliceRequest is what a container asks for of MIG devices that do not exist
// yet: annotations berth.dev/mig and berth.dev/mig-share.
type SliceRequest struct {
	Asks []mig.Ask
	// Share has all containers of the pod that ask so use the same slices.
	Share bool
}

const sharePod = "pod"

// fromMIG reads a request for slices that are to be made.
func fromMIG(in asking) (*Request, error) {
	key, value, ok := in.annotation("mig")
	if !ok || value == "none" {
		return nil, nil
	}
	source := "annotation " + boundedText(key)
	if other, text, ok := in.annotation("gpu"); ok && text != "none" {
		return nil, fmt.Errorf("%s and %s: a container has either a slice that is made for it or devices that there are; take one of the annotations away: %w",
			source, boundedText(other), errdefs.ErrInvalidArgument)
	}
	asks, err := mig.ParseAsk(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	r := &Request{Source: source, Asked: boundedText(value), Slices: &SliceRequest{Asks: asks}}
	switch key, share, _ := in.annotation("mig-share"); share {
	case "":
	case sharePod:
		if in.spec.Annotations[criSandboxID] == "" {
			return nil, fmt.Errorf("annotation %s: this container is in no pod, and can share its slice with nobody: %w", boundedText(key), errdefs.ErrInvalidArgument)
		}
		r.Slices.Share = true
	default:
		return nil, fmt.Errorf("annotation %s is %.64q; known is %q, or none at all for a slice of the container's own: %w",
			boundedText(key), share, sharePod, errdefs.ErrInvalidArgument)
	}
	return r, nil
}
