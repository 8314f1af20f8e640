// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"berth/test/e2e/image"
)

// The images, beside the demo image, which has neither libc nor loader. Each
// has /bin/cuda.
const (
	glibc      = "berth.local/glibc:latest"      // the host's libc with a cache of its own, and a shell
	distroless = "berth.local/distroless:latest" // libc and its loader alone
	musl       = "berth.local/musl:latest"       // musl, and a shell
)

// The loaders, by the paths that programs are linked with.
const (
	glibcLoader = "/lib64/ld-linux-x86-64.so.2"
	muslLoader  = "/lib/ld-musl-x86_64.so.1"
)

func loadImages(ctx context.Context) error {
	for _, i := range []struct {
		name string
		make func(dir string) error
	}{{glibc, makeGlibc}, {distroless, makeDistroless}, {musl, makeMusl}} {
		dir := tree(i.name)
		if i.name == musl && !exists(muslLoader) {
			continue // see TestCUDA
		}
		if err := i.make(dir); err != nil {
			return fmt.Errorf("make %s: %w", i.name, err)
		}
		var archive bytes.Buffer
		if err := image.WriteTree(&archive, i.name, dir, ocispec.ImageConfig{Env: []string{"PATH=/bin:/usr/bin"}}); err != nil {
			return err
		}
		if err := shared.LoadImages(ctx, archive.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// tree is the directory that an image was made of.
func tree(name string) string { return filepath.Join(built, "trees", filepath.Base(name)) }

func makeDistroless(dir string) error {
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, file := range []string{glibcLoader, "/lib/x86_64-linux-gnu/libc.so.6"} {
		if err := install(dir+file, file); err != nil {
			return err
		}
	}
	return compile("-O1", "-o", dir+"/bin/cuda", "testdata/cuda.c")
}

func makeGlibc(dir string) error {
	if err := makeDistroless(dir); err != nil {
		return err
	}
	if err := shell(dir); err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/etc/ld.so.conf", []byte("/lib/x86_64-linux-gnu\n"), 0o644); err != nil {
		return err
	}
	if out, err := exec.Command("/sbin/ldconfig", "-r", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("ldconfig: %w: %s", err, out)
	}
	return nil
}

func makeMusl(dir string) error {
	if err := shell(dir); err != nil {
		return err
	}
	if err := install(dir+muslLoader, muslLoader); err != nil {
		return err
	}
	return compile("-O1", "-U_FORTIFY_SOURCE", "-fno-stack-protector", "-nostdlib", "-o", dir+"/bin/cuda", "testdata/cuda.c", "testdata/start.c",
		"-Wl,--dynamic-linker="+muslLoader, muslLoader)
}

// shell puts a static busybox into a tree.
func shell(dir string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := install(dir+"/bin/busybox", busybox); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "sleep", "cat", "ls", "touch"} {
		if err := os.Symlink("busybox", dir+"/bin/"+applet); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir+"/etc", 0o755)
}

// install copies a file, the links to it followed.
func install(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, fs.FileMode(0o755))
}

func compile(args ...string) error {
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cc %v: %w: %s", args, err, out)
	}
	return nil
}
