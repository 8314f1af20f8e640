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
	"berth/sandbox/vm/network"
)

// state is the file that says what there is of the machine of a pod, for
// `delete` to end it in a process that did not make it. Its path is the pod's
// directory's, with a suffix.
type state string

// traces are what a machine leaves on the host if nobody removes it.
type traces struct {
	Cgroup  *cgroup.Location `json:",omitempty"`
	Network *network.Record  `json:",omitempty"`
}

// maxState bounds what is read back, in bytes.
const maxState = 64 << 10

func (s state) write(t traces) error {
	data, err := json.Marshal(t)
	if err == nil {
		err = os.WriteFile(s.unfinished(), data, 0o600)
	}
	if err == nil { // what was noted before must not be lost with the writer
		err = os.Rename(s.unfinished(), string(s))
	}
	if err != nil {
		return fmt.Errorf("note what there is of the machine: %w", err)
	}
	return nil
}

func (s state) unfinished() string { return string(s) + ".new" }

func (s state) remove() error {
	for _, path := range []string{string(s), s.unfinished()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget what there was of the machine: %w", err)
		}
	}
	return nil
}

// reclaim ends what is left of the machine, and removes its cgroup and then what
// is in the pod's network for it.
func (s state) reclaim(ctx context.Context) error {
	info, err := os.Stat(string(s))
	if errors.Is(err, fs.ErrNotExist) {
		return s.remove() // one that was not finished says nothing that was done
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
	var t traces
	if json.Unmarshal(data, &t) == nil {
		if err := t.remove(ctx); err != nil {
			return fmt.Errorf("end what the shim has left of its machine: %w", err)
		}
	}
	return s.remove()
}

func (t traces) remove(ctx context.Context) error {
	if t.Cgroup != nil {
		cg, err := cgroup.Load(*t.Cgroup)
		if err == nil {
			err = errors.Join(cg.Kill(ctx), cg.Remove(ctx), cg.Close())
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if t.Network != nil {
		return t.Network.Remove()
	}
	return nil
}
