// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"syscall"

	"github.com/containerd/fifo"
)

// Streams names a process's standard streams as Create and Exec take them:
// "", the path of a FIFO, or a URI.
type Streams struct{ Stdin, Stdout, Stderr string }

// Pipe makes a FIFO in the daemon's directory and opens the end that containerd
// would hold: flag is syscall.O_RDONLY for an output, O_WRONLY for a stdin. The
// caller closes it.
func (d *Daemon) Pipe(ctx context.Context, name string, flag int) (string, io.ReadWriteCloser, error) {
	path := filepath.Join(d.Dir, "b", name)
	f, err := fifo.OpenFifo(ctx, path, flag|syscall.O_CREAT|syscall.O_NONBLOCK, 0o700)
	if err != nil {
		return "", nil, fmt.Errorf("open fifo %s: %w", name, err)
	}
	return path, f, nil
}
