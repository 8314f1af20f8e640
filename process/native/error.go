// SPDX-License-Identifier: Apache-2.0

package native

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer"
)

// What the command line itself refuses, in its words.
var (
	errStopped     = errors.New("cannot start a container that has stopped")
	errStarted     = errors.New("cannot start an already running container")
	errExecStopped = errors.New("cannot exec in a stopped container")
	errExecPaused  = errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	errNotDeleted  = errors.New("cannot delete container")
	errStillRuns   = errors.New("container init still running")
)

// classes are the errors of the library that say something of a container's
// state.
var classes = []struct{ of, class error }{
	{libcontainer.ErrNotExist, errdefs.ErrNotFound},
	{libcontainer.ErrExist, errdefs.ErrAlreadyExists},
	{libcontainer.ErrInvalidID, errdefs.ErrInvalidArgument},
	{libcontainer.ErrNotRunning, errdefs.ErrFailedPrecondition},
	{libcontainer.ErrRunning, errdefs.ErrFailedPrecondition},
	{libcontainer.ErrPaused, errdefs.ErrFailedPrecondition},
	{libcontainer.ErrNotPaused, errdefs.ErrFailedPrecondition},
	{errStopped, errdefs.ErrFailedPrecondition},
	{errStarted, errdefs.ErrFailedPrecondition},
	{errExecStopped, errdefs.ErrFailedPrecondition},
	{errExecPaused, errdefs.ErrFailedPrecondition},
	{errNotDeleted, errdefs.ErrFailedPrecondition},
}

// runtimeError is the error of a call, of the class that an error of the
// command line would have.
func runtimeError(verb string, err error) error {
	if err == nil {
		return nil
	}
	for _, c := range classes {
		if errors.Is(err, c.of) {
			return fmt.Errorf("OCI runtime %s failed: %w: %w", verb, err, c.class)
		}
	}
	return fmt.Errorf("OCI runtime %s failed: %w", verb, err)
}
