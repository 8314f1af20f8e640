// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"berth/gpu/rootfs"
)

// ConfFile tells an ldconfig that runs in the container about our directories. Its
// name sorts before those of the images' own files: in ldconfig too the first wins.
const ConfFile = "/etc/ld.so.conf.d/00-berth-nvidia.conf"

const (
	cachePath = "/etc/ld.so.cache"
	confPath  = "/etc/ld.so.conf"
	maxConf   = 64 << 10 // bytes of a configuration file
)

// planGlibc plans cache and configuration; newer are the libraries for forward
// compatibility.
func (p *Plan) planGlibc(root *rootfs.Root, cfg Config, newer []Library) error {
	if err := p.planConf(root, cfg); err != nil {
		return err
	}
	data, err := read(root, cachePath, MaxCache)
	if err != nil {
		return err
	}
	cache := &Cache{}
	switch {
	case data == nil:
		p.say("%s: the image has none", cachePath)
	case !isCache(data):
		p.say("%s: the image's is none that a loader reads, and is replaced", cachePath)
	default:
		if cache, err = Parse(data); err != nil {
			return brokenCache(err)
		}
	}
	stale := cache.dropStale(root, cfg)
	var ours []Entry
	for _, l := range slices.Concat(newer, cfg.Libraries) {
		e := Entry{Soname: l.Soname, Path: l.Path, ABI: l.ABI}
		if !slices.Contains(ours, e) {
			ours = append(ours, e)
		}
	}
	cache.Merge(ours)
	merged, err := cache.Encode()
	if err != nil {
		return brokenCache(err)
	}
	p.put(cachePath, data, merged, "%d entries of the driver's before %d others, %d of an earlier driver replaced",
		len(ours), len(cache.Entries)-len(ours), stale)
	for _, e := range ours {
		p.say("%s: %s (%s) => %s", cachePath, e.Soname, e.ABI, e.Path)
	}
	return nil
}

// brokenCache says what to do about a cache that cannot be merged; see doc.go for
// why it is not replaced.
func brokenCache(err error) error {
	return fmt.Errorf("add the driver's libraries to the image's %s: run ldconfig in the image, or remove the file: %w", cachePath, err)
}

// dropStale removes entries in our directories whose file the image does not have:
// an earlier Install made them, for libraries that were mounted there. The empty
// files on which a runtime mounted them do not count.
func (c *Cache) dropStale(root *rootfs.Root, cfg Config) int {
	all := len(c.Entries)
	c.Entries = slices.DeleteFunc(c.Entries, func(e Entry) bool {
		if !slices.ContainsFunc(cfg.Dirs, func(d Dir) bool { return d.Path == path.Dir(e.Path) }) {
			return false
		}
		st, err := root.Stat(path.Clean(e.Path))
		return err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0
	})
	return all - len(c.Entries)
}

// planConf plans the list of directories, and its inclusion by ld.so.conf.
func (p *Plan) planConf(root *rootfs.Root, cfg Config) error {
	lines := []string{"# Written by Berth: where the container's NVIDIA driver is."}
	lines = append(lines, p.dirs(cfg, 0)...)
	own, err := read(root, ConfFile, maxConf)
	if err != nil {
		own = nil // not ours, whatever it is: it is replaced
	}
	p.put(ConfFile, own, []byte(strings.Join(lines, "\n")+"\n"), "ldconfig in the container looks into %s first", strings.Join(lines[1:], " "))

	conf, err := read(root, confPath, maxConf)
	if err != nil {
		return err
	}
	if includesFirst(string(conf), ConfFile) {
		return nil
	}
	// Before what the file lists, which counts in this order; and only our file: the
	// image may have others in that directory and not include them.
	p.put(confPath, conf, append([]byte("include "+ConfFile+"\n"), conf...), "it includes %s first", ConfFile)
	return nil
}

// dirs lists the directories to search first: for one ABI, or all for 0.
func (p *Plan) dirs(cfg Config, abi ABI) []string {
	var dirs []string
	if p.Compat != "" {
		dirs = append(dirs, p.Compat)
	}
	for _, d := range cfg.Dirs {
		if (abi == 0 || d.ABI == abi) && !slices.Contains(dirs, d.Path) {
			dirs = append(dirs, d.Path)
		}
	}
	return dirs
}

// includesFirst says whether the first thing that ld.so.conf lists is a file.
func includesFirst(conf, file string) bool {
	for line := range strings.Lines(conf) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) == 1 || words[0] != "include" {
			return false
		}
		pattern := words[1]
		if !path.IsAbs(pattern) {
			pattern = path.Join("/etc", pattern)
		}
		ok, err := path.Match(pattern, file)
		return ok && err == nil
	}
	return false
}
