// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"errors"
	"fmt"

	"berth/sandbox/vm"
)

// Make boots a machine and puts it on record when its agent has nothing to do.
func Make(ctx context.Context, c vm.Config, sharing bool) (_ *vm.Template, retErr error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("it took more than %v", bootTimeout))
	defer cancel()
	m, err := vm.BootTemplate(ctx, c, sharing)
	if err != nil {
		return nil, fmt.Errorf("make a template: %w", err)
	}
	defer func() {
		if err := m.Close(context.WithoutCancel(ctx)); err != nil && retErr == nil {
			retErr = fmt.Errorf("make a template: %w", err)
		}
	}()
	if err := talk(ctx, m.Transport(), nothing); err != nil {
		if exit := m.Exit(); exit != nil {
			err = errors.Join(err, exit)
		}
		return nil, fmt.Errorf("make a template: talk to its agent: %w", err)
	}
	t, err := m.Record(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a template: %w", err)
	}
	return t, nil
}
