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

// Discard makes a FIFO as Pipe does and drains it until the writers are gone or
// the returned function is called.
func (d *Daemon) Discard(ctx context.Context, name string) (path string, stop func() error, err error) {
	path, reader, err := d.Pipe(ctx, name, syscall.O_RDONLY)
	if err != nil {
		return "", nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, reader) //nolint:errcheck // it ends by being closed
	}()
	return path, func() error {
		err := reader.Close()
		<-done
		return err
	}, nil
}

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
