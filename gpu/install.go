// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
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
	if covered(spec, "/dev") {
		if err := p.linkInDev(s); err != nil {
			return nil, fmt.Errorf("make links below /dev: %w", err)
		}
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
	if !p.loader.hidden || spec.Process == nil {
		return report, nil
	}
	// The image's /etc is not the one that the container will see.
	entry := p.loader.searchPath(spec)
	return append(report, Entry{"env", boundedText(entry), "", "a mount hides the loader's cache"}),
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

// linkInDev takes the links out of the plan that nobody would see in the root
// file system, since the runtime mounts a new /dev over it. It makes them in the
// bundle, from where their directories are mounted. A /dev that is not new is
// the host's, which has its own; one with a mount of the user's there is left
// alone.
func (p *Plan) linkInDev(s *hooks.Spec) error {
	var dirs []string
	links := p.links
	p.links = slices.DeleteFunc(slices.Clone(links), func(l planned[Link]) bool { return below(l.what.Path, "/dev") })
	for _, l := range links {
		dir := path.Dir(path.Clean(l.what.Path))
		if !below(dir, "/dev") || dir == "/dev" {
			continue
		}
		i := slices.Index(dirs, dir)
		if i < 0 {
			i, dirs = len(dirs), append(dirs, dir)
		}
		at := linkDir(s.Bundle(), i)
		if err := errors.Join(os.MkdirAll(at, 0o755), os.Chmod(at, 0o755)); err != nil { // whatever the umask is
			return err
		}
		if err := os.Symlink(l.what.Target, filepath.Join(at, path.Base(l.what.Path))); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if dirs == nil {
		return nil
	}
	return s.Edit(func(spec *specs.Spec) error {
		for i, dir := range dirs {
			over := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) != "/dev" && below(dir, m.Destination) })
			dev := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == "/dev" && m.Type == "tmpfs" })
			if over < 0 && dev >= 0 {
				spec.Mounts = append(spec.Mounts, specs.Mount{Source: linkDir(s.Bundle(), i), Destination: dir, Type: "bind", Options: fileOptions})
			}
		}
		return nil
	})
}

func linkDir(bundle string, i int) string {
	return filepath.Join(bundle, "gpu-links", strconv.Itoa(i))
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
