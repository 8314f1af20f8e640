// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"

	"berth/process/cgroup"
)

// state is the file that says where the machine of a pod is, for `delete` to
// end it in a process that did not make it. Its path is the pod's directory's,
// with a suffix.
type state string

// maxState bounds what is read back, in bytes.
const maxState = 64 << 10

func (s state) write(loc cgroup.Location) error {
	data, err := json.Marshal(loc)
	if err == nil {
		err = os.WriteFile(string(s), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note where the machine is: %w", err)
	}
	return nil
}

func (s state) remove() error {
	if err := os.Remove(string(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget where the machine was: %w", err)
	}
	return nil
}

// reclaim ends what is left of the machine, and removes its cgroup. A file that
// was cut off was written just before the end of whoever wrote it, and QEMU
// ends with its parent.
func (s state) reclaim(ctx context.Context) error {
	info, err := os.Stat(string(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() > maxState {
		return fmt.Errorf("%s has %d bytes: it is none of this shim's: %w", s, info.Size(), errdefs.ErrInvalidArgument)
	}
	data, err := os.ReadFile(string(s))
	if err != nil {
		return err
	}
	var loc cgroup.Location
	if json.Unmarshal(data, &loc) == nil {
		cg, err := cgroup.Load(loc)
		if err == nil {
			err = errors.Join(cg.Kill(ctx), cg.Remove(ctx), cg.Close())
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("end what the shim has left of its machine: %w", err)
		}
	}
	return s.remove()
}
