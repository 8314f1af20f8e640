// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// module is a kernel module, as it goes into the image.
type module struct {
	name string // as lsmod(8) shows it: with _ for -
	data []byte
}

// modules returns the modules that the requirements want and those that these
// depend on, each after what it depends on.
func (k *kernel) modules() ([]module, error) {
	paths, err := k.modulePaths()
	if err != nil {
		return nil, err
	}
	builtin, err := k.builtin()
	if err != nil {
		return nil, err
	}
	o := order{paths: paths, builtin: builtin, placed: make(map[string]bool)}
	// Nothing says that virtio needs virtio_ring, but the drivers of both do,
	// and a driver that is probed in between fails.
	for _, name := range append([]string{"virtio_ring"}, wanted()...) {
		if err := o.place(name); err != nil {
			return nil, fmt.Errorf("kernel %s: %w", k.release, err)
		}
	}
	return o.modules, nil
}

func wanted() (names []string) {
	for _, r := range requirements {
		if r.module != "" {
			names = append(names, r.module)
		}
	}
	return names
}

// modulePaths are all modules of the kernel, by name.
func (k *kernel) modulePaths() (map[string]string, error) {
	paths := make(map[string]string)
	err := filepath.WalkDir(k.moduleDir(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if base, _, ok := strings.Cut(e.Name(), ".ko"); ok {
				paths[moduleName(base)] = path
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find the modules of kernel %s: %w", k.release, err)
	}
	return paths, nil
}

// builtin are the names of the modules that are part of the kernel.
func (k *kernel) builtin() (map[string]bool, error) {
	data, err := os.ReadFile(filepath.Join(k.moduleDir(), "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("find the built-in modules of kernel %s: %w", k.release, err)
	}
	names := make(map[string]bool)
	for _, path := range strings.Fields(string(data)) {
		names[moduleName(strings.TrimSuffix(filepath.Base(path), ".ko"))] = true
	}
	return names, nil
}

func moduleName(file string) string { return strings.ReplaceAll(file, "-", "_") }

// order collects modules, each after what it depends on.
type order struct {
	paths   map[string]string
	builtin map[string]bool
	placed  map[string]bool // also while its dependencies are being placed
	modules []module
}

func (o *order) place(name string) error {
	if o.builtin[name] || o.placed[name] {
		return nil
	}
	o.placed[name] = true
	path, ok := o.paths[name]
	if !ok {
		return fmt.Errorf("there is no module %s in the package", name)
	}
	if !strings.HasSuffix(path, ".ko") {
		return fmt.Errorf("module %s is compressed (%s): decompress it in the unpacked package first", name, filepath.Ext(path))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	depends, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("read what %s depends on: %w", path, err)
	}
	for _, d := range depends {
		if err := o.place(d); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	o.modules = append(o.modules, module{name: name, data: data})
	return nil
}

// dependencies reads the entry "depends" of a module's section .modinfo, which
// is a list of key=value, each ended by a 0 byte.
func dependencies(ko []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("it has no section .modinfo: this is no kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range bytes.Split(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok {
			for _, name := range strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' }) {
				names = append(names, moduleName(name))
			}
		}
	}
	return names, nil
}
