// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"berth/gpu/rootfs"
)

// Compat says where an image may bring a newer user-space driver (CUDA forward
// compatibility), and against which driver of the host it counts as newer.
type Compat struct {
	Dirs    []string // candidates, such as /usr/local/cuda/compat; the first that fits is used
	Driver  string   // the host driver's version
	Allowed bool
}

const (
	maxCompatNames = 1000 // names in the directory; the package of CUDA 12 has some 10
	maxCompatLibs  = 64
)

// planCompat decides on forward compatibility, and returns the libraries that then
// come first. A candidate that cannot be read is not used, and no reason to stop.
func (p *Plan) planCompat(root *rootfs.Root, cfg Config) []Library {
	if !cfg.Compat.Allowed {
		return nil
	}
	for _, dir := range cfg.Compat.Dirs {
		version, libs, err := readCompat(root, cfg, dir)
		switch {
		case missing(err):
		case err != nil:
			p.say("%s: not used: %v", dir, err)
		case major(cfg.Compat.Driver) == 0:
			p.say("%s: not used: the host driver's version %q is not known", dir, cfg.Compat.Driver)
		case major(version) <= major(cfg.Compat.Driver):
			p.say("%s: not used: its driver %s is not newer than the host's %s", dir, version, cfg.Compat.Driver)
		default:
			p.say("%s: used first: its driver %s is newer than the host's %s", dir, version, cfg.Compat.Driver)
			p.Compat = dir
			return libs
		}
	}
	return nil
}

// readCompat finds libcuda.so.<version> in a directory of the image, and with it
// all libraries of that version, which belong together.
func readCompat(root *rootfs.Root, cfg Config, dir string) (version string, libs []Library, err error) {
	names, err := root.ReadDir(dir, maxCompatNames)
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		v, ok := strings.CutPrefix(name, "libcuda.so.")
		if ok && strings.Trim(v, "0123456789.") == "" && major(v) > 0 && compareSonames(v, version) > 0 {
			version = v
		}
	}
	if version == "" {
		return "", nil, fmt.Errorf("no libcuda.so.<version> in it: %w", errdefs.ErrFailedPrecondition)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".so."+version) || !plainName(name) || len(libs) == maxCompatLibs {
			continue
		}
		f, err := root.OpenFile(path.Join(dir, name))
		if err != nil { // also a dangling link: the directory is there, the library is not
			return "", nil, fmt.Errorf("%v: %w", err, errdefs.ErrFailedPrecondition)
		}
		lib, err := ReadLibrary(f)
		f.Close()
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", name, err)
		}
		if lib.Path = path.Join(dir, name); lib.Soname != "" && slices.Contains(cfg.abis(), lib.ABI) {
			libs = append(libs, lib)
		}
	}
	if len(libs) == 0 {
		err = fmt.Errorf("its libraries of %s are not for %s: %w", version, abiNames(cfg.abis()), errdefs.ErrFailedPrecondition)
	}
	return version, libs, err
}

// major is the first number of a driver's version such as 535.104.05; 0 if it has none.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}
