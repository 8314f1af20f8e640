// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"cmp"
	"os"
	"path"
	"slices"
	"strings"

	"berth/gpu/loader"
)

// libraries takes those of the directories that the loader's cache names for
// the driver, then of the usual ones. The cache says where, the directory
// what: a library that ldconfig(8) has not seen yet must not be missed.
func (s *scan) libraries() {
	dirs := append(s.cached(), libraryDirs()...)
	for _, e := range s.list("/usr/lib") {
		if strings.HasPrefix(e.Name(), "nvidia") {
			dirs = append(dirs, "/usr/lib/"+e.Name())
		}
	}
	var seen []string
	for _, dir := range dirs {
		at, ok := s.directory(dir)
		if !ok || slices.Contains(seen, at) {
			continue
		}
		seen = append(seen, at)
		entries := s.list(dir)
		for _, e := range entries {
			s.library(dir, "", e.Name(), entries)
		}
		entries = s.list(dir + "/vdpau")
		for _, e := range entries {
			s.library(dir, "vdpau/", e.Name(), entries)
		}
		for _, sub := range xorgDirs() {
			s.xorg(path.Join(dir, sub))
		}
	}
}

// library takes one file of a library directory, or of one below it, if it is
// a library of the driver.
func (s *scan) library(dir, sub, name string, entries []os.DirEntry) {
	stem, version, ok := strings.Cut(name, ".so.")
	if !ok || !strings.HasPrefix(stem, "lib") {
		return
	}
	use, own := libraryUse(stem)
	if version != s.out.Version && !(own && isNumbers(version)) {
		if isVersion(version) && s.other[stem] == "" {
			s.other[stem] = version
		}
		return
	}
	host, mode, err := s.root.resolve(path.Join(dir, sub, name))
	if err != nil || !mode.IsRegular() {
		return
	}
	lib, err := readLibrary(host)
	if err != nil || !runsHere(lib.ABI) || !lib.ABI.Is64() && sub != "" {
		return // broken, of another machine, or a module of 32-bit programs
	}
	base := path.Base(host)
	if !strings.HasPrefix(base, stem+".so.") {
		base = name
	}
	f := File{Host: host, Path: sub + base, Kind: Library, Capability: use, Soname: cmp.Or(lib.Soname, base), ABI: lib.ABI}
	if sub != "" {
		f.Kind = Module
	} else if !lib.ABI.Is64() {
		f.Kind = Library32
	}
	if !s.first(string(f.Kind) + " " + sub + f.Soname) {
		return
	}
	s.out.Files = append(s.out.Files, f)
	if f.Kind != Library32 {
		s.have[stem] = true
	}
	s.libraryLinks(f, sub, stem, base, entries)
}

// libraryLinks adds the names by which programs know a library.
func (s *scan) libraryLinks(f File, sub, stem, base string, entries []os.DirEntry) {
	link := func(path, target string) { s.link(Link{path, target, f.Kind, f.Capability}) }
	if f.Soname != base {
		link(sub+f.Soname, base)
	}
	editor := stem + ".so"
	linked := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == editor && e.Type() == os.ModeSymlink })
	if f.Soname != editor && (linked || linkedAlways(stem)) {
		link(sub+editor, f.Soname)
	}
	if stem == "libGLX_nvidia" {
		link("libGLX_indirect.so.0", base)
	}
	if stem == "libnvidia-allocator" && f.Kind == Library {
		s.link(Link{"gbm/nvidia-drm_gbm.so", "../" + f.Soname, Module, Graphics | Display})
	}
}

// xorg takes the X server's modules, which keep their place: a configuration
// file names it.
func (s *scan) xorg(dir string) {
	for _, e := range s.list(dir) {
		at, glx := path.Join(dir, e.Name()), "libglxserver_nvidia.so"
		switch e.Name() {
		case "nvidia_drv.so", glx + "." + s.out.Version:
			s.add(at, e.Name(), File{Path: at, Kind: Module, Capability: Display})
		}
		if e.Name() == glx+"."+s.out.Version {
			s.link(Link{path.Join(dir, glx), e.Name(), Module, Display})
		}
	}
}

// cached are the directories that the loader's cache has libraries of the
// driver in, through all symlinks: Debian's alternatives are several deep.
func (s *scan) cached() (dirs []string) {
	const name = "/etc/ld.so.cache"
	s.watch(s.roots.driver(name))
	host, mode, err := s.root.resolve(name)
	if err != nil || !mode.IsRegular() {
		return nil
	}
	b, err := os.ReadFile(host)
	if err != nil {
		return nil
	}
	cache, err := loader.Parse(b)
	if err != nil {
		return nil // the loader does not use it either
	}
	for _, e := range cache.Entries {
		stem, version, _ := strings.Cut(path.Base(e.Path), ".so.")
		if _, known := libraryUse(stem); stem != "libcuda" && stem != "libnvidia-ml" && version != s.out.Version && !known {
			continue
		}
		if at, _, err := s.root.resolve(e.Path); err == nil {
			dirs = append(dirs, s.root.inside(path.Dir(at)))
		}
	}
	return slices.Compact(dirs)
}
