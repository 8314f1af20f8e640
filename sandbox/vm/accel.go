// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"berth/sandbox/vm/kvm"
)

// Choose is the first of these that runs guests here. Where KVM does not, it may
// take a second to find that out; memo is a file that spares the next ones the
// wait, if there is another accelerator to go on to.
func Choose(ctx context.Context, may []Accel, memo string) (Accel, error) {
	var refused []error
	for i, a := range may {
		switch a {
		case TCG:
			return TCG, nil
		case KVM:
			var err error
			if i+1 < len(may) {
				err = kvm.TryOnce(ctx, kvm.Device, memo)
			} else {
				err = kvm.Try(ctx, kvm.Device)
			}
			if err == nil {
				return KVM, nil
			}
			refused = append(refused, err)
		default:
			refused = append(refused, fmt.Errorf("accelerator %q is not known; known are kvm, tcg", a))
		}
	}
	if len(refused) == 0 {
		refused = append(refused, errors.New("the configuration names no accelerator"))
	}
	return "", fmt.Errorf("virtual machines cannot run on this host: %w; "+
		"for tests, emulation can be allowed: accel = [\"kvm\", \"tcg\"]: %w", errors.Join(refused...), errdefs.ErrUnavailable)
}
