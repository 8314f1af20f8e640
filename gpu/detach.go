// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"berth/process"
)

// errGoesOn says that the helper has not ended yet, and will by itself.
var errGoesOn = errors.New("berth-gpu goes on by itself")

// detached starts the helper for work that it is to finish whatever becomes of
// this process, and waits for it until ctx is done: then the error is errGoesOn.
// What it says goes to files in memory, not to pipes, which would kill it once
// nobody reads them.
func (h Helper) detached(ctx context.Context, args []string, stdin *os.File) ([]byte, error) {
	stdout, err := memory("answer")
	if err != nil {
		return nil, err
	}
	defer func() { _ = stdout.Close() }()
	stderr, err := memory("errors")
	if err != nil {
		return nil, err
	}
	defer func() { _ = stderr.Close() }()
	// A group of its own: whoever cleans up after a shim kills the shim's.
	p, err := h.Supervisor.Start(&process.Command{Path: h.Path, Args: args, Env: []string{}, Files: []*os.File{stdin, stdout, stderr}, OwnGroup: true})
	if err != nil {
		return nil, notInstalled(err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return nil, errGoesOn
	}
	out, err := io.ReadAll(io.NewSectionReader(stdout, 0, maxHelperOutput))
	text, textErr := io.ReadAll(io.NewSectionReader(stderr, 0, maxHelperOutput))
	if err := errors.Join(err, textErr); err != nil {
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
