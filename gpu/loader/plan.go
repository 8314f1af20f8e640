// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"berth/gpu/rootfs"
)

// Dir is a directory of the container that has the driver's libraries of one ABI.
type Dir struct {
	Path string
	ABI  ABI
}

// Config says what the loader is to find.
type Config struct {
	Dirs      []Dir // in the loader's order
	Libraries []Library
	Compat    Compat
}

// File is one file that the plan writes, whole.
type File struct {
	Path string
	Data []byte
}

// Plan is what it takes for the loader to find the libraries. Where the root file
// system cannot be written (unix.EROFS from Apply) the caller may still give Files
// to the container in another way.
type Plan struct {
	Loaders []string // those that the image has, such as "glibc" and "musl x86_64"
	Compat  string   // the directory for forward compatibility, where it is used
	Files   []File   // only those that differ from what is there
	Lines   []string // what was decided and why, for a person
}

// NewPlan reads the root file system and plans; it writes nothing.
func NewPlan(root *rootfs.Root, cfg Config) (*Plan, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &Plan{}
	musl, err := p.findLoaders(root, cfg)
	if err != nil {
		return nil, err
	}
	if len(p.Loaders) == 0 {
		p.say("the image has no dynamic loader of %s: nothing is written; only static programs can run in it", abiNames(cfg.abis()))
		return p, nil
	}
	newer := p.planCompat(root, cfg)
	for _, pl := range musl {
		if err := p.planMusl(root, cfg, pl); err != nil {
			return nil, err
		}
	}
	if slices.Contains(p.Loaders, "glibc") {
		err = p.planGlibc(root, cfg, newer)
	}
	return p, err
}

// Install plans and applies. The plan is returned also with an error of Apply.
func Install(root *rootfs.Root, cfg Config) (*Plan, error) {
	p, err := NewPlan(root, cfg)
	if err != nil {
		return nil, err
	}
	return p, p.Apply(root)
}

// Apply writes the plan's files.
func (p *Plan) Apply(root *rootfs.Root) error {
	for _, f := range p.Files {
		if err := root.MkdirAll(path.Dir(f.Path)); err != nil {
			return err
		}
		if err := root.WriteFile(f.Path, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// findLoaders fills in Loaders, and returns the platforms that have musl.
func (p *Plan) findLoaders(root *rootfs.Root, cfg Config) (musl []platform, err error) {
	glibc, err := exists(root, cachePath)
	if err != nil {
		return nil, err
	}
	for _, pl := range platforms() {
		if !slices.Contains(cfg.abis(), pl.abi) {
			continue
		}
		found, err := exists(root, pl.glibc)
		if err != nil {
			return nil, err
		}
		glibc = glibc || found
		if found, err = exists(root, "/lib/ld-musl-"+pl.musl+".so.1"); err != nil {
			return nil, err
		}
		if found {
			musl = append(musl, pl)
			p.Loaders = append(p.Loaders, "musl "+pl.musl)
		}
	}
	if glibc {
		p.Loaders = append(p.Loaders, "glibc")
	}
	return musl, nil
}

// put plans that a file has this content, and says why; current is what it has.
func (p *Plan) put(name string, current, data []byte, why string, args ...any) {
	if current != nil && bytes.Equal(current, data) {
		p.say("%s: already so (%s)", name, fmt.Sprintf(why, args...))
		return
	}
	p.Files = append(p.Files, File{Path: name, Data: data})
	p.say("%s: %s", name, fmt.Sprintf(why, args...))
}

func (p *Plan) say(format string, args ...any) {
	p.Lines = append(p.Lines, fmt.Sprintf(format, args...))
}

// abis lists the ABIs that the driver's libraries have.
func (c Config) abis() []ABI {
	var abis []ABI
	for _, d := range c.Dirs {
		abis = append(abis, d.ABI)
	}
	for _, l := range c.Libraries {
		abis = append(abis, l.ABI)
	}
	slices.Sort(abis)
	return slices.Compact(abis)
}

func abiNames(abis []ABI) string {
	var names []string
	for _, a := range abis {
		names = append(names, a.String())
	}
	return strings.Join(names, ", ")
}

// check refuses what would mean something else in a list of directories.
func (c Config) check() error {
	paths := slices.Clone(c.Compat.Dirs)
	for _, d := range c.Dirs {
		paths = append(paths, d.Path)
	}
	for _, l := range c.Libraries {
		paths = append(paths, l.Path)
		if !plainName(l.Soname) {
			return fmt.Errorf("library %s: %q is no soname: %w", l.Path, l.Soname, errdefs.ErrInvalidArgument)
		}
	}
	for _, p := range paths {
		if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsAny(p, " \t\r\n\x00:;,#=*?[\\") {
			return fmt.Errorf("%q is no path for a loader: it must be absolute and clean, without blanks or any of :;,#=*?[\\: %w", p, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// exists says whether a path leads to something in the container.
func exists(root *rootfs.Root, p string) (bool, error) {
	_, err := root.Stat(p)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

// missing says whether an error means that nothing is at a path.
func missing(err error) bool { return errors.Is(err, os.ErrNotExist) }

// read returns a file's content, nil where there is none.
func read(root *rootfs.Root, p string, limit int64) ([]byte, error) {
	data, err := root.ReadFile(p, limit)
	if missing(err) {
		return nil, nil
	}
	return data, err
}
