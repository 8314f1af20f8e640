// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// Description is the name of the file that names the current image.
const Description = "image.json"

// maxDescription bounds what is read of a description, in bytes.
const maxDescription = 64 << 10

// Image is a guest's kernel and its initramfs.
type Image struct {
	// Kernel and Initramfs are paths; in the description, names beside it.
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs"`
	// Release is the kernel's, as uname(2) reports it.
	Release string `json:"release"`
	// Modules are the kernel modules in the initramfs, in the order in which
	// the agent loads them.
	Modules []string `json:"modules"`
}

// Open finds the current image of a directory.
func Open(dir string) (Image, error) {
	data, err := readDescription(filepath.Join(dir, Description))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("no guest image in %s: build one with `berth guest build`: %w", dir, errdefs.ErrNotFound)
	}
	if err != nil {
		return Image{}, fmt.Errorf("read the description of the guest image: %w", err)
	}
	var i Image
	if err := json.Unmarshal(data, &i); err != nil {
		return Image{}, fmt.Errorf("%s in %s is not right: %w: build it again with `berth guest build`", Description, dir, err)
	}
	for _, name := range []*string{&i.Kernel, &i.Initramfs} {
		if *name == "" || *name != filepath.Base(*name) {
			return Image{}, fmt.Errorf("%s in %s names the file %q: it must lie beside it", Description, dir, *name)
		}
		*name = filepath.Join(dir, *name)
		if info, err := os.Stat(*name); err != nil {
			return Image{}, fmt.Errorf("the guest image is not whole: %w: build it again with `berth guest build`", err)
		} else if !info.Mode().IsRegular() {
			return Image{}, fmt.Errorf("%s in %s names %s, which is no regular file", Description, dir, *name)
		}
	}
	return i, nil
}

func readDescription(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxDescription {
		return nil, fmt.Errorf("%s has %d bytes: this is no description of an image", path, info.Size())
	}
	return os.ReadFile(path)
}
