// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

// errGoesOn says that the helper has not ended yet, and will by itself.
var errGoesOn = errors.New("berth-gpu goes on by itself")

// detached starts the helper for work that it is to finish whatever becomes of
// this process, and waits for its answer until ctx is done: then the error is
// errGoesOn. It may answer before it ends.
func (h Helper) detached(ctx context.Context, args []string, stdin *os.File) ([]byte, error) {
	stderr, err := memory("errors")
	if err != nil {
		return nil, err
	}
	defer func() { _ = stderr.Close() }()
	answer, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }()
	// A group of its own: whoever cleans up after a shim kills the shim's.
	p, err := h.Supervisor.Start(&process.Command{Path: h.Path, Args: args, Env: []string{}, Files: []*os.File{stdin, stdout, stderr}, OwnGroup: true})
	_ = stdout.Close()
	if err != nil {
		return nil, notInstalled(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = answer.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	out, err := io.ReadAll(io.LimitReader(answer, maxHelperOutput))
	if err == nil && len(out) > 0 {
		return out, nil
	}
	select { // without an answer it has ended, or is about to
	case <-p.Done():
	case <-ctx.Done():
		return nil, errGoesOn
	}
	text, err := io.ReadAll(io.NewSectionReader(stderr, 0, maxHelperOutput))
	if err != nil {
		return nil, err
	}
	return result(p.Exit(), out, text)
}

// memory is a file that nothing but its descriptor names.
func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("berth-gpu", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file for the helper's %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
