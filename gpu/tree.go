// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A tree is a directory of the host with the links and the mount points of a
// plan's libraries. It is mounted read-only where the container has them, and
// the libraries in it. So nothing of that is written into the container's own
// layer; and since it depends on nothing but the driver and the capabilities,
// one is made for all containers that want the same.
type tree struct {
	base  string // where the container has it
	files []string
	links []Link // paths of both are relative to base
}

// tree takes what lies below base out of the plan's links.
func (p *Plan) tree(base string) tree {
	t := tree{base: base}
	for _, m := range p.mounts {
		if rel, ok := strings.CutPrefix(m.what.Destination, base+"/"); ok {
			t.files = append(t.files, rel)
		}
	}
	p.links = slices.DeleteFunc(p.links, func(l planned[Link]) bool {
		rel, ok := strings.CutPrefix(l.what.Path, base+"/")
		if ok {
			t.links = append(t.links, Link{Path: rel, Target: l.what.Target})
			p.treeLinks = append(p.treeLinks, l)
		}
		return ok
	})
	return t
}

// key names the tree by what is in it.
func (t tree) key() string {
	h := sha256.New()
	for _, f := range t.files {
		fmt.Fprintf(h, "file %q\n", f)
	}
	for _, l := range t.links {
		fmt.Fprintf(h, "link %q %q\n", l.Path, l.Target)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// plantTree plans the tree below base, and its mount before those in it.
func (p *Plan) plantTree(r Roots, base string) {
	t := p.tree(base)
	if len(t.files) == 0 {
		return
	}
	dir := r.run("trees", t.key())
	p.mounts = slices.Insert(p.mounts, 0, planned[specs.Mount]{
		specs.Mount{Source: dir, Destination: base, Type: "bind", Options: fileOptions},
		"links and mount points of the libraries",
	})
	p.build = func() error { return t.build(dir) }
}

// build makes the tree in one step: who finds it finds all of it. Shims that
// build at the same time wait for each other, some milliseconds, so that what a
// shim left that was killed has a known name, and goes with the next one.
func (t tree) build(dir string) (retErr error) {
	defer func() {
		if retErr != nil {
			retErr = fmt.Errorf("make the tree of libraries: %w", retErr)
		}
	}()
	if isTree(dir) {
		return nil
	}
	// Only we may have made what is mounted into containers.
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }() // and unlock
	if err := unix.Flock(int(parent.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", parent.Name(), err)
	}
	if isTree(dir) {
		return nil // it was made meanwhile
	}
	tmp := filepath.Join(parent.Name(), ".new")
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o700)); err != nil {
		return err
	}
	if err := t.fill(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, dir)
}

func isTree(dir string) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir()
}

func (t tree) fill(dir string) error {
	made := map[string]bool{}
	mkdir := func(rel string) error {
		for d, parts := dir, strings.Split(path.Dir(rel), "/"); len(parts) > 0; parts = parts[1:] {
			d = filepath.Join(d, parts[0])
			if made[d] {
				continue
			}
			if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := os.Chmod(d, 0o755); err != nil { // whatever the umask is
				return err
			}
			made[d] = true
		}
		return nil
	}
	for _, f := range t.files {
		if err := mkdir(f); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o444); err != nil {
			return err
		}
	}
	for _, l := range t.links {
		if err := mkdir(l.Path); err != nil {
			return err
		}
		if err := os.Symlink(l.Target, filepath.Join(dir, l.Path)); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}
