// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"debug/elf"
	"os"
	"path"
	"slices"
	"strings"
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
		at, mode, err := s.root.resolve(dir)
		if err != nil || !mode.IsDir() || slices.Contains(seen, at) {
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
	if version != s.out.Version && !own {
		if isVersion(version) && s.other[stem] == "" {
			s.other[stem] = version
		}
		return
	}
	host, mode, err := s.root.resolve(path.Join(dir, sub, name))
	if err != nil || !mode.IsRegular() {
		return
	}
	soname, bits := readSoname(host)
	f := File{Host: host, Kind: Library, Capability: use, Soname: soname}
	switch {
	case bits == 0 || bits == 32 && sub != "":
		return // of another machine, or a module for 32-bit programs
	case bits == 32:
		f.Kind = Library32
	case sub != "":
		f.Kind = Module
	}
	base := path.Base(host)
	if !strings.HasPrefix(base, stem+".so.") {
		base = name
	}
	if f.Soname == "" || strings.Contains(f.Soname, "/") {
		f.Soname = base
	}
	if !s.first(string(f.Kind) + " " + sub + f.Soname) {
		return
	}
	f.Path = sub + base
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

// interim
func (s *scan) cached() []string { return nil }

func readSoname(host string) (string, int) {
	f, err := elf.Open(host)
	if err != nil {
		return "", 0
	}
	defer f.Close()
	names, _ := f.DynString(elf.DT_SONAME)
	names = append(names, "")
	switch f.Machine {
	case elf.EM_X86_64:
		return names[0], 64
	case elf.EM_386:
		return names[0], 32
	}
	return "", 0
}
