// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"io"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
)

// Kernel is where the containers of a Runtime run, with what a pod needs of it
// beside the runtime. A Runtime that is no Kernel has its containers on this one.
type Kernel interface {
	// Mount makes a container's root file system, of what the snapshotter
	// gave, and Unmount undoes that however far it came, in any process.
	Mount(bundle string, rootfs []Mount) error
	Unmount(bundle string) error
	// OpenStreams opens the streams of a process, which the runtime is then
	// given in its request.
	OpenStreams(ctx context.Context, cfg process.StreamsConfig) (Streams, error)
	// Cgroup is what holds the processes of a container that was made.
	Cgroup(id string, init *process.Process) (Cgroup, error)
}

// Streams is the stdio of one process, wherever that runs: see process.Streams,
// whose methods these are.
type Streams interface {
	oci.Stdio
	Attach(ctx context.Context) error
	CloseStdin() error
	Resize(width, height uint16) error
	Drain(ctx context.Context) error
	Close() error
}

// Cgroup is what holds the processes of one container, wherever that runs: see
// cgroup.Cgroup, whose methods these mostly are. A call that has to wait for
// somebody is bounded, by ctx or by itself.
type Cgroup interface {
	// Kill ends all processes and returns when none is left alive.
	Kill(ctx context.Context) error
	// Signal sends a signal to every process that there is now.
	Signal(ctx context.Context, sig unix.Signal) error
	Pids() ([]int, error)
	Stats(dst []byte) (encoded []byte, typeURL string, err error)
	// OOMKills explains an exit that was heard of before the call.
	OOMKills() (uint64, error)
	// WatchOOM calls notify, from one goroutine, until the watch is closed.
	WatchOOM(notify func(kills uint64)) (io.Closer, error)
	// Snapshot keeps what OOMKills has to know after the cgroup has gone.
	Snapshot()
	Frozen() (bool, error)
	Thaw() error
	Close() error
}

// kernelOf is where the containers of a runtime run. sup may be nil where
// nothing will be mounted.
func kernelOf(rt Runtime, sup *process.Supervisor) Kernel {
	if k, ok := rt.(Kernel); ok {
		return k
	}
	return ThisKernel(sup)
}
