// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/gpu/rootfs"
	"berth/hooks"
)

// install writes the plan's symlinks, and what the loader needs, into the
// mounted root file system. Nothing of the container runs yet.
func (p *Plan) install(s *hooks.Spec, spec *specs.Spec, dir string) ([]Entry, error) {
	if len(p.links) == 0 && len(p.loader.dirs) == 0 && p.visible == 0 {
		return nil, nil
	}
	uid, gid := rootIDs(spec)
	report, err := p.installIn(dir, uid, gid)
	if errors.Is(err, unix.EROFS) {
		if err := coverReadOnly(dir, s.Bundle()); err != nil {
			return nil, err
		}
		report, err = p.installIn(dir, uid, gid)
	}
	if err != nil {
		return nil, fmt.Errorf("put the driver's libraries into the root file system: %w", err)
	}
	if !p.loader.hidden {
		return report, nil
	}
	// The image's /etc is not the one that the container will see.
	entry := p.loader.searchPath(spec)
	return append(report, Entry{"env", entry, "", "a mount hides the loader's cache"}),
		s.Edit(func(spec *specs.Spec) error { setEnv(spec.Process, entry); return nil })
}

func (p *Plan) installIn(dir string, uid, gid int) ([]Entry, error) {
	root, err := rootfs.Open(dir, uid, gid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	for _, l := range p.links {
		if err := root.MkdirAll(filepath.Dir(l.what.Path)); err != nil {
			return nil, err
		}
		if err := root.Symlink(l.what.Target, l.what.Path); err != nil {
			return nil, err
		}
	}
	if err := p.installProfile(root); err != nil {
		return nil, err
	}
	return p.loader.install(root)
}

// coverReadOnly mounts a writable layer over a root file system that a client
// has prepared for reading only: the mount points of the driver's files have
// to be made somewhere. The layer is in the bundle, and goes with it; the
// mount goes with the root file system's.
func coverReadOnly(dir, bundle string) error {
	if dir != filepath.Join(bundle, "rootfs") {
		return fmt.Errorf("the root file system %s cannot be written, and is not containerd's: the driver's libraries cannot be put there: %w",
			dir, errdefs.ErrFailedPrecondition)
	}
	upper, work := filepath.Join(bundle, "gpu-upper"), filepath.Join(bundle, "gpu-work")
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("look at the root file system: %w", err)
	}
	for _, d := range []string{upper, work} {
		if err := unix.Mkdir(d, st.Mode&0o777); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make a writable layer: %w", err)
		}
	}
	if err := unix.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("make a writable layer: %w", err)
	}
	quote := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace
	options := "lowerdir=" + quote(dir) + ",upperdir=" + quote(upper) + ",workdir=" + quote(work)
	if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount a writable layer over the read-only root file system: %w", err)
	}
	return nil
}
