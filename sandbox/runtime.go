// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"

	"berth/process"
	"berth/process/oci"
)

// Runtime makes containers and processes in them. Calls for different
// containers, and for different execs of one container, run beside each
// other. When ctx ends the call must end too, at the latest after killing
// whatever it was waiting for.
type Runtime interface {
	// Create makes a container whose init waits for Start, or restores one.
	// On an error nothing of it is left.
	Create(ctx context.Context, r *oci.CreateRequest) (*process.Process, error)
	// Start lets the init of a created container go.
	Start(ctx context.Context, id string) error
	// Exec starts one more process. On an error nothing of it is left.
	Exec(ctx context.Context, r *oci.ExecRequest) (*process.Process, error)
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	// Update applies an OCI LinuxResources object, given as JSON.
	Update(ctx context.Context, id string, resources []byte) error
	// Delete removes what the runtime keeps of a container that has exited,
	// or with force of one in any state. errdefs.ErrNotFound if it has none.
	Delete(ctx context.Context, id string, force bool) error
}

// Checkpointer is a Runtime that can write a container's state to disk.
type Checkpointer interface {
	Checkpoint(ctx context.Context, r *oci.CheckpointRequest) error
}
