// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/gpu/nvml"
	"berth/process"
)

// helperTimeout bounds one run of berth-gpu. It takes some 10 ms; a driver
// that wakes sleeping GPUs up takes seconds for each.
const helperTimeout = 30 * time.Second

// maxHelperOutput bounds what is read of it, in bytes.
const maxHelperOutput = 1 << 20

// Helper is the program berth-gpu, which asks NVML.
type Helper struct {
	// Path is the program's.
	Path string
	// DriverRoot is where it looks for the driver's library.
	DriverRoot string
	Supervisor *process.Supervisor
}

// List asks which devices NVML knows. The helper's environment has nothing in
// it: what it loads is decided by its arguments alone.
func (h Helper) List(ctx context.Context) (*nvml.List, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	out, err := h.run(ctx, append([]string{"list"}, h.where()...), nil)
	if err != nil {
		return nil, fmt.Errorf("ask NVML: %w", err)
	}
	return nvml.Decode(out)
}

// where are the arguments that say which library is loaded.
func (h Helper) where() []string {
	if h.DriverRoot == "/" {
		return nil
	}
	return []string{"--driver-root", h.DriverRoot}
}

// run gives the helper stdin, which may be nil and stays the caller's.
func (h Helper) run(ctx context.Context, args []string, stdin *os.File) ([]byte, error) {
	stdout, stderr, closeWrite, err := pipes()
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = stdout.Close(), stderr.Close() }()
	p, err := h.Supervisor.Start(&process.Command{
		Path: h.Path, Args: args, Env: []string{}, Files: closeWrite.files(stdin), DieWithParent: true,
	})
	closeWrite.close()
	if err != nil {
		return nil, fmt.Errorf("%w: install berth-gpu beside the shim, or name it by helper in the configuration: %w", err, errdefs.ErrFailedPrecondition)
	}
	stop := context.AfterFunc(ctx, func() {
		_ = p.Signal(unix.SIGKILL)
		// A process that the driver holds in the kernel does not die of it.
		over := time.Unix(1, 0)
		_, _ = stdout.SetReadDeadline(over), stderr.SetReadDeadline(over)
	})
	defer stop()
	failure := make(chan []byte, 1)
	go func() { text, _ := io.ReadAll(io.LimitReader(stderr, maxHelperOutput)); failure <- text }()
	out, err := io.ReadAll(io.LimitReader(stdout, maxHelperOutput))
	text := <-failure
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("berth-gpu gave no answer, and is waited for no longer; the driver may hang, see the kernel's log: %w", ctx.Err())
	}
	switch exit := p.Exit(); {
	case err != nil:
		return nil, err
	case exit.Status == 0:
		return out, nil
	default:
		if said := nvml.DecodeError(text); said != nil {
			return nil, said
		}
		return nil, fmt.Errorf("berth-gpu ended with status %d: %.200q", exit.Status, strings.TrimSpace(string(text)))
	}
}

// writeEnds are the descriptors that the child gets as 1 and 2.
type writeEnds [2]*os.File

func (w writeEnds) files(stdin *os.File) []*os.File { return []*os.File{stdin, w[0], w[1]} }
func (w writeEnds) close()                          { _, _ = w[0].Close(), w[1].Close() }

func pipes() (stdout, stderr *os.File, w writeEnds, err error) {
	stdout, w[0], err = os.Pipe()
	if err != nil {
		return nil, nil, w, err
	}
	stderr, w[1], err = os.Pipe()
	if err != nil {
		return nil, nil, w, errors.Join(err, stdout.Close(), w[0].Close())
	}
	return stdout, stderr, w, nil
}
