// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"berth/process"
)

// Exec starts one more process in a running container. On an error nothing of it is left.
func (c *CLI) Exec(ctx context.Context, r *ExecRequest) (*process.Process, error) {
	// Not named like the init's, whatever the exec is called, and gone afterwards: a probe
	// that runs every few seconds would fill the bundle.
	pidFile := filepath.Join(r.Bundle, ".exec-"+r.ExecID+".pid")
	if err := removeStale(pidFile); err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(pidFile) }()
	spec, err := writeProcess(r)
	if spec != "" {
		defer func() { _ = os.Remove(spec) }()
	}
	if err != nil {
		return nil, err
	}
	run := &call{verb: "exec", dir: r.Bundle, args: []string{"--process", spec, "--pid-file", pidFile, "--detach"}}
	run.attach(r.Streams)
	run.args = append(run.args, r.ID)

	hold := c.Supervisor.Hold() // as in Create
	defer hold.Release()
	if _, err = c.run(ctx, run); err == nil {
		var pid int
		if pid, err = readPid(pidFile); err == nil {
			var p *process.Process
			if p, err = hold.Adopt(pid); err == nil {
				return p, nil
			}
		}
	}
	return nil, errors.Join(err, killLost(hold, pidFile, run.stdio))
}

// writeProcess puts the OCI process into a file that only the runtime gets to see: it may
// hold secrets in its environment.
func writeProcess(r *ExecRequest) (path string, err error) {
	f, err := os.CreateTemp(r.Bundle, "."+r.ExecID+"-*.json")
	if err != nil {
		return "", fmt.Errorf("write process of exec %q: %w", r.ExecID, err)
	}
	_, err = f.Write(r.Process)
	if err = errors.Join(err, f.Close()); err != nil {
		return f.Name(), fmt.Errorf("write process of exec %q: %w", r.ExecID, err)
	}
	return f.Name(), nil
}
