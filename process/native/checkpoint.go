// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"berth/process"
	"berth/process/oci"
)

// Checkpoint has the command line write the container's processes to disk.
func (d *Driver) Checkpoint(ctx context.Context, r *oci.CheckpointRequest) error {
	cli, err := d.command("checkpoint")
	if err != nil {
		return err
	}
	return cli.Checkpoint(ctx, r)
}

func (d *Driver) restore(ctx context.Context, r *oci.CreateRequest) (*process.Process, error) {
	cli, err := d.command("restore")
	if err != nil {
		return nil, err
	}
	return cli.Create(ctx, r)
}

func (d *Driver) command(verb string) (*oci.CLI, error) {
	if d.Command == nil {
		return nil, fmt.Errorf("%s is done by runc's command line, which is not there: %w", verb, errdefs.ErrNotImplemented)
	}
	cli, err := d.Command()
	if err != nil {
		return nil, fmt.Errorf("%s is done by runc's command line: %w", verb, err)
	}
	return cli, nil
}
