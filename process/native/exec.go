// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runc/libcontainer"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process"
	"berth/process/oci"
)

// Exec starts one more process in a running container. On an error nothing of
// it is left.
func (d *Driver) Exec(ctx context.Context, r *oci.ExecRequest) (p *process.Process, err error) {
	err = d.do(ctx, "exec", r.Bundle, func(c *call) error {
		made, err := d.exec(c, r)
		if err != nil {
			return fmt.Errorf("exec failed: %w", err) // as the command line says
		}
		p = made
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (d *Driver) exec(call *call, r *oci.ExecRequest) (*process.Process, error) {
	c, err := d.take(r.ID)
	if err != nil {
		return nil, err
	}
	status, err := c.Status()
	switch {
	case err != nil:
		return nil, err
	case status == libcontainer.Stopped:
		return nil, errExecStopped
	case status == libcontainer.Paused:
		return nil, errExecPaused
	}
	var spec specs.Process
	if err := json.Unmarshal(r.Process, &spec); err != nil {
		return nil, err
	}
	if err := validate(&spec); err != nil {
		return nil, err
	}
	hold := d.Supervisor.Hold()
	defer hold.Release()
	p, err := d.launch(c.Container, hold, &spec, r.Streams, false)
	if err != nil {
		return nil, err
	}
	d.leave(c)
	return p, call.handOver(p)
}
