// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"berth/sandbox/vm/image"
)

// Source is what an image is made of.
type Source struct {
	// Root has the kernel package's boot and lib/modules: "/" where it is
	// installed, or a directory where it was unpacked.
	Root string
	// Release chooses a kernel by its release; empty is the only one there.
	Release string
	// Agent is the program berth-agent, which must be static: there is no library
	// in the image.
	Agent string
}

// Build makes the image and has dir's description name it.
func Build(dir string, src Source) (image.Image, error) {
	k, err := findKernel(src.Root, src.Release)
	if err != nil {
		return image.Image{}, err
	}
	if err := k.check(); err != nil {
		return image.Image{}, err
	}
	modules, err := k.modules()
	if err != nil {
		return image.Image{}, err
	}
	files, err := contents(src, modules)
	if err != nil {
		return image.Image{}, err
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return image.Image{}, fmt.Errorf("make the directory of guest images: %w", err)
	}
	img := image.Image{Release: k.release}
	for _, m := range modules {
		img.Modules = append(img.Modules, m.name)
	}
	if img.Kernel, err = store(dir, "vmlinux", k.writeVmlinux); err != nil {
		return image.Image{}, err
	}
	if img.Initramfs, err = store(dir, "initramfs", func(w io.Writer) error { return writeCPIO(w, files) }); err != nil {
		return image.Image{}, err
	}
	if err := describe(dir, img); err != nil {
		return image.Image{}, err
	}
	return image.Open(dir)
}

// store writes a file and names it for the hash of its content. It returns the
// name.
func store(dir, kind string, write func(io.Writer) error) (string, error) {
	tmp, err := os.CreateTemp(dir, "."+kind+"-*")
	if err != nil {
		return "", fmt.Errorf("write the guest's %s: %w", kind, err)
	}
	defer func() {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name()) // it has gone if all went well
	}()
	hash := sha256.New()
	if err := write(io.MultiWriter(tmp, hash)); err != nil {
		return "", fmt.Errorf("write the guest's %s: %w", kind, err)
	}
	name := kind + "-" + hex.EncodeToString(hash.Sum(nil))[:32]
	if err := publish(tmp, filepath.Join(dir, name)); err != nil {
		return "", fmt.Errorf("write the guest's %s: %w", kind, err)
	}
	return name, nil
}

// describe replaces the description.
func describe(dir string, img image.Image) error {
	tmp, err := os.CreateTemp(dir, ".description-*")
	if err != nil {
		return fmt.Errorf("write the description of the guest image: %w", err)
	}
	defer func() {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name())
	}()
	enc := json.NewEncoder(tmp)
	enc.SetIndent("", "  ")
	if err := enc.Encode(img); err != nil {
		return fmt.Errorf("write the description of the guest image: %w", err)
	}
	if err := publish(tmp, filepath.Join(dir, image.Description)); err != nil {
		return fmt.Errorf("write the description of the guest image: %w", err)
	}
	return nil
}

// publish gives a written file its name, once its content is on disk.
func publish(tmp *os.File, path string) error {
	if err := tmp.Chmod(0o444); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
