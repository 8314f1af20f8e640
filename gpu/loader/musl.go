// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"slices"
	"strings"

	"berth/gpu/rootfs"
)

// muslDefault is what musl searches where it has no path file (ldso/dynlink.c of
// musl); with one it searches only what that lists.
const muslDefault = "/lib:/usr/local/lib:/usr/lib"

// planMusl plans the path file of one architecture's loader.
func (p *Plan) planMusl(root *rootfs.Root, cfg Config, pl platform) error {
	name := "/etc/ld-musl-" + pl.musl + ".path"
	dirs := p.dirs(cfg, pl.abi)
	if len(dirs) == 0 {
		return nil
	}
	current, err := read(root, name, maxConf)
	if err != nil {
		return err
	}
	list := muslDefault
	if current != nil {
		list, _, _ = strings.Cut(string(current), "\x00") // musl reads no further
	}
	ours := len(dirs)
	for _, d := range strings.FieldsFunc(list, func(c rune) bool { return c == ':' || c == '\n' }) {
		if !slices.Contains(dirs[:ours], d) {
			dirs = append(dirs, d)
		}
	}
	p.put(name, current, []byte(strings.Join(dirs, "\n")+"\n"), "musl looks into %s first", strings.Join(dirs[:ours], " "))
	return nil
}
