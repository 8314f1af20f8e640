// SPDX-License-Identifier: Apache-2.0

package gpu

import (
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

// add has the loader find a library in a directory of the container, where
// there is a link by its soname.
func (l *loaderPlan) add(dir, soname string, abi loader.ABI) {
	l.libraries = append(l.libraries, loader.Library{Soname: soname, Path: path.Join(dir, soname), ABI: abi})
	if d := (loader.Dir{Path: dir, ABI: abi}); !slices.Contains(l.dirs, d) {
		l.dirs = append(l.dirs, d)
	}
}

// folder has the loader find the libraries that a CDI spec mounts into a
// directory, by their sonames, as ldconfig(8) would.
func (p *Plan) folder(spec *specs.Spec, dir string) {
	for _, m := range spec.Mounts {
		dest := path.Clean(m.Destination)
		if path.Dir(dest) != path.Clean(dir) || !strings.Contains(path.Base(dest), ".so") {
			continue
		}
		lib, err := readLibrary(m.Source)
		if err != nil || lib.Soname == "" {
			continue // what is no library needs no loader
		}
		p.loader.add(path.Dir(dest), lib.Soname, lib.ABI)
		if path.Base(dest) != lib.Soname {
			p.link(path.Join(path.Dir(dest), lib.Soname), path.Base(dest), "update-ldcache of the CDI spec")
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
