// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"berth/sandbox/agentapi"
)

// The names in a volume that kubelet writes (Kubernetes,
// pkg/volume/util/atomic_writer.go).
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
)

// volume is a copy of such a volume, in memory. A program of the container's
// sees in it, by inotify too, what it would on the host.
type volume struct {
	gate     chan struct{} // one change at a time
	from, to string        // directories: in the share, and the copy
	data     string        // what is copied now; empty before the first time
	ended    bool          // the container is being deleted
}

// endVolumes has no copy change any more, so that all of them can be removed.
func (c *container) endVolumes(ctx context.Context) error {
	for _, v := range c.volumes {
		select {
		case v.gate <- struct{}{}:
			v.ended = true
			<-v.gate
		case <-ctx.Done():
			return fmt.Errorf("wait for a change of volume %s: %w", filepath.Base(v.to), ctx.Err())
		}
	}
	return nil
}

// copyVolumes makes the copies that a container starts with, and says which
// source of a mount each takes the place of. A volume that is too large for one
// stays in the share.
func (s *server) copyVolumes(c *container, volumes []*agentapi.Volume) (sources map[string]string, err error) {
	for _, want := range volumes {
		if !validID(want.Name) {
			return nil, fmt.Errorf("volume %q: %w", want.Name, errdefs.ErrInvalidArgument)
		}
		v := &volume{
			gate: make(chan struct{}, 1),
			from: filepath.Join(s.cfg.Share, c.id, want.Name), to: filepath.Join(c.bundle, "volumes", want.Name),
		}
		err := v.change(want.Data)
		if errdefs.IsNotFound(err) { // it was changed since; that link was never read here, so nothing of it is cached
			var now string
			if now, err = os.Readlink(filepath.Join(v.from, dataLink)); err == nil {
				err = v.change(now)
			}
		}
		if errors.Is(err, errVolumeSize) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if c.volumes == nil {
			c.volumes, sources = make(map[string]*volume), make(map[string]string)
		}
		c.volumes[want.Name], sources[v.from] = v, v.to
	}
	return sources, nil
}

// Refresh changes a copy.
func (s *server) Refresh(ctx context.Context, r *agentapi.RefreshRequest) (*agentapi.Empty, error) {
	return s.with(r.Container, func(c *container) error {
		v := c.volumes[r.GetVolume().GetName()]
		if v == nil {
			return fmt.Errorf("container %q has no copy of volume %q: %w", c.id, r.GetVolume().GetName(), errdefs.ErrFailedPrecondition)
		}
		select {
		case v.gate <- struct{}{}:
			defer func() { <-v.gate }()
		case <-ctx.Done():
			return ctx.Err()
		}
		if v.ended {
			return fmt.Errorf("container %q is being deleted: %w", c.id, errdefs.ErrNotFound)
		}
		return v.change(r.Volume.Data)
	})
}

// change makes the copy what the volume is with this directory of data, in the
// order in which kubelet changes a volume: the new files are there before the
// link leads to them, and the old ones until it does.
func (v *volume) change(data string) (retErr error) {
	if data == v.data {
		return nil
	}
	if data == dataLink || data == newDataLink || !strings.HasPrefix(data, "..") || data == ".." || strings.ContainsAny(data, "/\x00") {
		return fmt.Errorf("%.64q is not what a volume's ..data leads to: %w", data, errdefs.ErrInvalidArgument)
	}
	defer func() {
		if retErr != nil {
			retErr = fmt.Errorf("copy volume %s: %w", filepath.Base(v.to), retErr)
		}
	}()
	if v.data == "" {
		if err := os.MkdirAll(v.to, 0o755); err != nil {
			return err
		}
		if err := copyAttributes(v.from, v.to); err != nil {
			return err
		}
	}
	names, err := v.bring(data)
	if err != nil {
		return err
	}
	old := v.data
	v.data = data
	return errors.Join(v.showOnly(names), v.drop(old))
}

// bring copies the data and leads the link there. On an error the copy is what
// it was.
func (v *volume) bring(data string) (names map[string]bool, retErr error) {
	into := filepath.Join(v.to, data)
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, os.RemoveAll(into))
		}
	}()
	t := treeCopy{bytes: maxVolume, entries: maxVolumeEntries}
	err := t.copy(filepath.Join(v.from, data), into)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(into)
	if err != nil {
		return nil, err
	}
	names = make(map[string]bool)
	for _, e := range entries {
		names[e.Name()] = true
	}
	link := filepath.Join(v.to, newDataLink)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.Symlink(data, link); err != nil {
		return nil, err
	}
	return names, os.Rename(link, filepath.Join(v.to, dataLink))
}

// showOnly has the names of the data, and no other, at the top of the volume.
func (v *volume) showOnly(names map[string]bool) error {
	entries, err := os.ReadDir(v.to)
	if err != nil {
		return err
	}
	var errs []error
	shown := make(map[string]bool)
	for _, e := range entries {
		shown[e.Name()] = true
	}
	for name := range names {
		if !shown[name] {
			errs = append(errs, os.Symlink(filepath.Join(dataLink, name), filepath.Join(v.to, name)))
		}
	}
	for name := range shown {
		if !names[name] && !strings.HasPrefix(name, "..") {
			errs = append(errs, os.Remove(filepath.Join(v.to, name)))
		}
	}
	return errors.Join(errs...)
}

func (v *volume) drop(data string) error {
	if data == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(v.to, data))
}
