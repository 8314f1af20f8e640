// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"strings"
)

// directories that the agent mounts on or writes to; the kernel's own need a
// mount point before anything else can be done.
var directories = []string{"dev", "etc", "modules", "new", "proc", "run", "sys", "tmp", "var"}

// contents is what the initramfs has. The agent reads /modules/order, one file
// name a line.
func contents(src Source, modules []module) ([]file, error) {
	var files []file
	for _, d := range directories {
		files = append(files, file{path: d, mode: modeDir | 0o755})
	}
	// Without it the kernel gives PID 1 no standard output (init/main.c,
	// console_on_rootfs); devtmpfs is mounted over it later.
	files = append(files, file{path: "dev/console", mode: modeChar | 0o600, major: 5, minor: 1})
	agent, err := static(src.Agent)
	if err != nil {
		return nil, err
	}
	files = append(files, file{path: "init", mode: modeRegular | 0o755, data: agent})
	var list strings.Builder
	for _, m := range modules {
		name := m.name + ".ko"
		fmt.Fprintln(&list, name)
		files = append(files, file{path: "modules/" + name, mode: modeRegular | 0o644, data: m.data})
	}
	return append(files, file{path: "modules/order", mode: modeRegular | 0o644, data: []byte(list.String())}), nil
}

// static reads a program that needs nothing beside itself.
func static(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is linked dynamically: a guest has no libraries; build it static", path)
		}
	}
	return data, nil
}
