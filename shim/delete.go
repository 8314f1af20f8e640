// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"time"

	"berth/process"
	"berth/sandbox"
)

// cleanupTimeout bounds a delete. containerd kills it after 5 s
// (io.containerd.timeout.shim.cleanup) and then reports an unknown exit; a
// little earlier there is time left for an error that says why.
const cleanupTimeout = 4500 * time.Millisecond

// Delete finishes what a shim left of one container. The supervisor reaps no
// orphans: those of a dead shim belong to another process by now.
func (p Parts) Delete(ctx context.Context, cfg DeleteConfig) (DeleteResult, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	sup := process.NewSupervisor()
	defer sup.Close()
	d, err := sandbox.Cleanup(ctx, sandbox.CleanupRequest{
		ID: cfg.ID, Bundle: cfg.Bundle,
		Runtime: p.runtime(sup, cfg.Namespace), Hooks: p.Hooks,
	})
	err = errors.Join(err, takeOver(ctx, cfg.Identity))
	if err != nil {
		return DeleteResult{}, err
	}
	return DeleteResult{Pid: d.Pid, ExitStatus: d.Exit.Status, ExitedAt: d.Exit.At}, nil
}

// takeOver delivers the events of a shim that was killed and removes its
// socket. It does nothing while the shim is there.
func takeOver(ctx context.Context, id Identity) error {
	if id.SocketPath == "" {
		return nil
	}
	err := Replay(ctx, PublisherConfig{
		Address: id.TTRPCAddress, Namespace: id.Namespace, JournalPath: journalPath(id.SocketPath),
	})
	return errors.Join(err, RemoveStaleSocket(id.SocketPath))
}
