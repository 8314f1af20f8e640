// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"berth/test/e2e/image"
)

// libcImage is a shell, and the libc of this host: the driver's programs need
// one, and bring none.
const libcImage = "berth.local/libc:latest"

// loadLibc makes that image and loads it.
func (d *demo) loadLibc(ctx context.Context) error {
	dir := filepath.Join(d.gpus.dir, "libc")
	if err := libc(dir); err != nil {
		return fmt.Errorf("image %s: %w", libcImage, err)
	}
	var archive bytes.Buffer
	if err := image.WriteTree(&archive, libcImage, dir, ocispec.ImageConfig{Env: []string{"PATH=/bin"}}); err != nil {
		return err
	}
	return d.node.LoadImages(ctx, archive.Bytes())
}

func libc(dir string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	files := map[string]string{"/bin/sh": busybox, "/bin/ls": busybox, "/bin/grep": busybox, "/bin/sleep": busybox}
	loader, err := interpreter("/bin/sh")
	if err != nil {
		return err
	}
	files[loader] = loader
	// What nvidia-smi and libnvidia-ml are linked with. Newer versions of libc have all of it in one.
	for _, name := range []string{"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"} {
		for _, pattern := range []string{"/lib/*-linux-gnu/", "/lib64/"} {
			if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
				files[found[0]] = found[0]
				break
			}
		}
	}
	for _, mountPoint := range []string{"dev", "etc", "proc", "run", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, mountPoint), 0o755); err != nil {
			return err
		}
	}
	for to, from := range files {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(dir+to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(dir+to, data, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// interpreter is the loader of a program, elf(5).
func interpreter(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	section := f.Section(".interp")
	if section == nil {
		return "", errors.New(path + " is static: which loader this host has is not known")
	}
	data, err := section.Data()
	return strings.TrimRight(string(data), "\x00"), err
}
