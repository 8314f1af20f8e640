// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/loader"
	"berth/gpu/rootfs"
)

// compatDir is where CUDA images have their forward-compatibility libraries.
const compatDir = "/usr/local/cuda/compat"

// loaderPlan is what the container's loader is to find.
type loaderPlan struct {
	dirs      []loader.Dir
	libraries []loader.Library
	// driver is the version that the image's CUDA may be newer than; empty
	// uses the driver's in any case.
	driver string
	// hidden is set where a mount hides the /etc of the image.
	hidden bool
}

// add has the loader find a library: the file dest in the container, host on
// the host, from which its ABI is read.
func (l *loaderPlan) add(dest, host string) error {
	f, err := os.Open(host)
	if err != nil {
		return fmt.Errorf("read a library of the driver: %w", err)
	}
	defer func() { _ = f.Close() }()
	lib, err := loader.ReadLibrary(f)
	if err != nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	if lib.Soname == "" {
		return nil // found by its path alone
	}
	lib.Path = path.Join(path.Dir(dest), lib.Soname)
	l.libraries = append(l.libraries, lib)
	if dir := (loader.Dir{Path: path.Dir(dest), ABI: lib.ABI}); !slices.Contains(l.dirs, dir) {
		l.dirs = append(l.dirs, dir)
	}
	return nil
}

// folder has the loader find the libraries that a CDI spec mounts into a
// directory, by their sonames, as ldconfig(8) would.
func (p *Plan) folder(spec *specs.Spec, dir string) {
	for _, m := range spec.Mounts {
		dest := path.Clean(m.Destination)
		if path.Dir(dest) != path.Clean(dir) || !strings.Contains(path.Base(dest), ".so") {
			continue
		}
		before := len(p.loader.libraries)
		if p.loader.add(dest, m.Source) != nil || len(p.loader.libraries) == before {
			continue // what is no library needs no loader
		}
		if name := p.loader.libraries[before].Path; name != dest {
			p.link(name, path.Base(dest), "update-ldcache of the CDI spec")
		}
	}
}

// install has the loader find what is planned, and tells what was done.
func (l *loaderPlan) install(root *rootfs.Root) ([]Entry, error) {
	if len(l.libraries) == 0 {
		return nil, nil
	}
	done, err := loader.Install(root, loader.Config{
		Dirs: l.dirs, Libraries: l.libraries,
		Compat: loader.Compat{Dirs: []string{compatDir}, Driver: l.driver, Allowed: l.driver != ""},
	})
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, line := range done.Lines {
		what, why, _ := strings.Cut(line, ": ")
		out = append(out, Entry{Kind: "loader", Path: what, Reason: why})
	}
	return out, nil
}

// searchPath is LD_LIBRARY_PATH with the driver's directories before what the
// container has there.
func (l *loaderPlan) searchPath(spec *specs.Spec) string {
	var dirs []string
	for _, d := range l.dirs {
		dirs = append(dirs, d.Path)
	}
	const name = "LD_LIBRARY_PATH="
	for _, e := range spec.Process.Env {
		if value, ok := strings.CutPrefix(e, name); ok && value != "" {
			return name + strings.Join(append(dirs, value), ":")
		}
	}
	return name + strings.Join(dirs, ":")
}
