// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// scan finds the files of one version of the driver.
type scan struct {
	roots Roots
	root  driverRoot
	out   *Files
	have  map[string]bool   // what was found: of several copies the first counts
	other map[string]string // versions of libraries that are not the driver's
	// stamps are of all that was looked into, absent what was not there: the
	// cache's key.
	stamps []stamp
	absent []string
}

// search scans the driver root, and has the cache depend on what it looked at.
func (c *fileCache) search(r Roots, version string) (*Files, error) {
	root, err := openRoot(r.Driver)
	if err != nil {
		return nil, err
	}
	defer root.close()
	s := &scan{roots: r, root: root, out: &Files{Version: version}, have: make(map[string]bool), other: make(map[string]string)}
	s.libraries()
	if err := s.verdict(); err != nil {
		return nil, err
	}
	s.programs()
	s.configs()
	s.firmware()
	c.stamps, c.absent = s.stamps, s.absent
	return s.out, nil
}

// verdict says what is wrong if there are no libraries that fit the module.
func (s *scan) verdict() error {
	needed := []string{"libcuda", "libnvidia-ml"}
	for _, stem := range needed {
		if v := s.other[stem]; v != "" && !s.have[stem] {
			return fmt.Errorf("the kernel module is %s, but %s is %s: reboot, or reload the module, to have one version: %w",
				s.out.Version, stem, v, errdefs.ErrFailedPrecondition)
		}
	}
	if !slices.ContainsFunc(needed, func(stem string) bool { return s.have[stem] }) {
		return fmt.Errorf("the kernel module is %s, but neither the loader's cache nor the usual directories below %s have a libcuda or libnvidia-ml: install them, or set driver_root: %w",
			s.out.Version, s.roots.Driver, errdefs.ErrNotFound)
	}
	return nil
}

// list reads a directory below the root, and remembers when it last changed:
// also one that is not there yet.
func (s *scan) list(dir string) []os.DirEntry {
	at, ok := s.directory(dir)
	if !ok {
		return nil
	}
	entries, _ := os.ReadDir(at)
	return entries
}

func (s *scan) directory(dir string) (at string, ok bool) {
	at, mode, err := s.root.resolve(dir)
	if err != nil || !mode.IsDir() {
		s.missing(s.roots.driver(dir))
		return "", false
	}
	s.watch(at)
	return at, true
}

func (s *scan) watch(host string) {
	if !slices.ContainsFunc(s.stamps, func(t stamp) bool { return t.Path == host }) {
		s.stamps = append(s.stamps, stampOf(host))
	}
}

// missing remembers that a directory is not there, by the first on the way to
// it that is not.
func (s *scan) missing(host string) {
	for parent := filepath.Dir(host); parent != "/" && isAbsent(parent); parent = filepath.Dir(host) {
		host = parent
	}
	if isAbsent(host) && !slices.Contains(s.absent, host) {
		s.absent = append(s.absent, host)
	}
}

func isAbsent(path string) bool { return stampOf(path) == stamp{Path: path} }

// add takes a file, if it is one and none has taken its place.
func (s *scan) add(at, key string, f File) {
	host, mode, err := s.root.resolve(at)
	if err == nil && mode.IsRegular() && s.first(key) {
		f.Host = host
		s.out.Files = append(s.out.Files, f)
	}
}

func (s *scan) first(key string) bool {
	had := s.have[key]
	s.have[key] = true
	return !had
}

func (s *scan) link(l Link) {
	if s.first("link " + string(l.Kind) + " " + l.Path) {
		s.out.Links = append(s.out.Links, l)
	}
}

func (s *scan) programs() {
	for _, dir := range programDirs() {
		s.directory(dir)
		for _, p := range programs() {
			// Images search /usr/bin, whatever the host has in its PATH.
			s.add(path.Join(dir, p.name), p.name, File{Path: "/usr/bin/" + p.name, Kind: Binary, Capability: p.capability})
		}
	}
}

// configs takes what the loaders of OpenCL, EGL, Vulkan and X read. They look
// for it in both /etc and /usr/share; Vulkan's goes to /etc, as NVIDIA's
// toolkit has it. Google's driver root has vulkan at its top.
func (s *scan) configs() {
	for _, base := range []string{"/etc", "/usr/local/share", "/usr/share", "/"} {
		for _, c := range configFiles() {
			dir := path.Join(base, c.dir)
			in := dir
			if base == "/" || strings.HasPrefix(c.dir, "vulkan/") {
				in = path.Join("/etc", c.dir)
			}
			for _, e := range s.list(dir) {
				if ok, _ := path.Match(c.name, e.Name()); ok {
					s.add(path.Join(dir, e.Name()), c.dir+"/"+e.Name(), File{Path: path.Join(in, e.Name()), Kind: Config, Capability: c.capability})
				}
			}
		}
	}
}

// firmware takes the GSP's and, since driver 615, its microcode, from where the
// kernel takes it (firmware_class, fw_path). Every container has it, for NVML
// reads it too.
func (s *scan) firmware() {
	parameter, _ := readProc(s.roots.sys("module/firmware_class/parameters/path"))
	release, _ := readProc(s.roots.proc("sys/kernel/osrelease"))
	const usual = "/lib/firmware"
	kernel := strings.TrimSpace(string(release))
	for _, dir := range []string{
		s.root.inside(strings.TrimSpace(string(parameter))),
		usual + "/updates/" + kernel, usual + "/updates", usual + "/" + kernel, usual,
	} {
		dir = path.Join(dir, "nvidia", s.out.Version)
		for _, e := range s.list(dir) {
			if name := e.Name(); path.Ext(name) == ".bin" && (strings.HasPrefix(name, "gsp") || strings.HasPrefix(name, "ucodes")) {
				s.add(path.Join(dir, e.Name()), "nvidia/"+e.Name(), File{
					Path: path.Join(usual, "nvidia", s.out.Version, e.Name()), Kind: Firmware, Capability: AllCapabilities &^ Compat32,
				})
			}
		}
	}
}
