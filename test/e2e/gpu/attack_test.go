// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
)

// TestCVE_2025_23266_NothingOfTheContainerRunsOnTheHost has an image whose
// environment names a library to preload, and a PATH full of programs with the
// names of those that take part in an injection elsewhere. Each leaves a file on
// the host if it runs there. It asks for a MIG device by UUID and has a
// requirement, so that the helper runs too.
func TestCVE_2025_23266_NothingOfTheContainerRunsOnTheHost(t *testing.T) {
	home.use(t)
	dir := t.TempDir()
	canary := filepath.Join(dir, "ran")
	root := copied(t, glibc)
	library, program := filepath.Join(root, "evil.so"), filepath.Join(root, "evil")
	define := "-DCANARY=\"" + canary + "\""
	if err := compile(define, "-shared", "-fPIC", "-o", library, "testdata/evil.c"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "path"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := compile(define, "-DPROGRAM", "-static", "-o", program, "testdata/evil.c"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ldconfig", "ldconfig.real", "nvidia-cdi-hook", "nvidia-ctk", "nvidia-container-cli", "nvidia-modprobe", "berth-gpu", "runc", "mount"} {
		if err := os.Link(program, filepath.Join(root, "path", name)); err != nil {
			t.Fatal(err)
		}
	}
	harmful(t, canary, exec.Command(program))
	preload := exec.Command("/bin/true")
	preload.Env = []string{"LD_PRELOAD=" + library}
	harmful(t, canary, preload)

	c := start(testContext(t), t, request{
		gpu: migUUID(fakedriver.Instance{GI: 1}), rootfs: root,
		env: []string{"LD_PRELOAD=/evil.so", "LD_AUDIT=/evil.so", "LD_LIBRARY_PATH=/", "PATH=/path:/bin:/usr/bin", "NVIDIA_REQUIRE_CUDA=cuda>=12.0"},
	})
	wantDevices(t, look(t, c), append(home.control(), append(home.capNodes(home.GPUs[3], fakedriver.Instance{GI: 1}), gpuNode(home.GPUs[3]))...)...)
	if exists(canary) {
		t.Error("something of the container ran on the host")
	}
}

// harmful runs what must not be run, to see that it would be seen.
func harmful(t *testing.T, canary string, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Remove(canary); err != nil {
		t.Fatalf("the canary shows nothing: %v", err)
	}
}

// TestLinksToTheHost has root file systems in which a place that is written to
// is a link to a directory of the host. It may be refused or do without, and the
// host's directory stays as it was.
func TestLinksToTheHost(t *testing.T) {
	home.use(t)
	for _, place := range []string{
		"etc/ld.so.conf.d", "etc/ld.so.cache", "etc/ld.so.conf", "etc", "usr/local/nvidia", "usr/local/nvidia/lib64", "usr/local", "usr/bin",
		"usr/local/nvidia/lib64/libcuda.so.1", "usr/bin/nvidia-smi", "lib/firmware", "dev", "usr",
	} {
		t.Run(place, func(t *testing.T) {
			host := t.TempDir()
			for _, name := range []string{"file", "ld.so.cache", "nvidia-smi"} {
				if err := os.WriteFile(filepath.Join(host, name), []byte("the host's"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			before := listing(t, host)
			for id, target := range map[string]string{"absolute": host, "relative": strings.Repeat("../", 30) + host, "file": host + "/file", "root": "/proc/1/root" + host} {
				root := copied(t, glibc)
				at := filepath.Join(root, place)
				if err := os.RemoveAll(at); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(target, at); err != nil {
					t.Fatal(err)
				}
				c, err := tryStart(testContext(t), t, request{id: identifier(t) + "-" + id, gpu: "1", rootfs: root})
				if err != nil {
					t.Logf("%s: %v", id, err)
				}
				c.remove(t)
				if after := listing(t, host); after != before {
					t.Errorf("%s: the host had\n%sand has\n%s", id, before, after)
				}
			}
		})
	}
}

// TestHostileFiles has images with files where the loader's are that are none, do
// not end, or lie about what is in them. They are refused or replaced, at once,
// and nothing is left of a container that was refused.
func TestHostileFiles(t *testing.T) {
	home.use(t)
	header := func(entries uint32) string { // glibc's format 1.1
		b := binary.LittleEndian.AppendUint32([]byte("glibc-ld.so.cache1.1"), entries)
		return string(append(b, make([]byte, 24)...))
	}
	for name, c := range map[string]struct {
		at      string
		create  func(path string) error
		refused bool
	}{
		"FIFO":                {"etc/ld.so.cache", func(p string) error { return unix.Mkfifo(p, 0o644) }, true},
		"terabyte":            {"etc/ld.so.cache", sparse(1 << 40), true},
		"zeros":               {"etc/ld.so.cache", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) }, true},
		"directory":           {"etc/ld.so.cache", func(p string) error { return os.Mkdir(p, 0o755) }, true},
		"billions claimed":    {"etc/ld.so.cache", text(header(1 << 31)), true},
		"entries of zeros":    {"etc/ld.so.cache", text(header(200_000) + strings.Repeat("\x00", 200_000*24)), false},
		"no cache":            {"etc/ld.so.cache", text("#!/bin/sh\n"), false},
		"cut off":             {"etc/ld.so.cache", text("glibc-ld.so.cache1.1"), true},
		"list that is a FIFO": {"etc/ld.so.conf", func(p string) error { return unix.Mkfifo(p, 0o644) }, true},
		"our list as a FIFO":  {"etc/ld.so.conf.d/00-berth-nvidia.conf", func(p string) error { return unix.Mkfifo(p, 0o644) }, false},
		"CUDA that is a FIFO": {"usr/local/cuda/compat/libcuda.so.999.1", func(p string) error { return unix.Mkfifo(p, 0o644) }, false},
		"CUDA of a terabyte":  {"usr/local/cuda/compat/libcuda.so.999.1", sparse(1 << 40), false},
	} {
		t.Run(name, func(t *testing.T) {
			root := copied(t, glibc)
			at := filepath.Join(root, c.at)
			if err := errors.Join(os.RemoveAll(at), os.MkdirAll(filepath.Dir(at), 0o755), c.create(at)); err != nil {
				t.Fatal(err)
			}
			ctr, err := tryStart(testContext(t), t, request{gpu: "1", rootfs: root})
			if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "/"+c.at) {
				t.Errorf("error %v", err)
			}
			if err == nil {
				wantCUDA(t, ctr)
			}
			ctr.remove(t)
			if found := left(t, ctr.ID()); found != nil {
				t.Errorf("left behind: %q", found)
			}
		})
	}
}

func sparse(size int64) func(path string) error {
	return func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, size)) }
}

func text(s string) func(path string) error {
	return func(path string) error { return os.WriteFile(path, []byte(s), 0o644) }
}

// TestCVE_2026_24260_RaceInARootFS has another process exchange directories of
// the root file system with links to the host, as fast as it can, while
// containers are created in it. They run or not; the host stays as it was.
func TestCVE_2026_24260_RaceInARootFS(t *testing.T) {
	home.use(t)
	const containers = 10
	for _, place := range []string{"etc/ld.so.conf.d", "usr"} {
		t.Run(filepath.Base(place), func(t *testing.T) {
			host, root := t.TempDir(), copied(t, glibc)
			for _, dir := range []string{filepath.Join(root, place), filepath.Join(host, "local"), filepath.Join(host, "ld.so.conf.d"), filepath.Join(host, "bin")} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(host, "ld.so.cache"), []byte("the host's"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(host, filepath.Join(root, "swap")); err != nil {
				t.Fatal(err)
			}
			before := listing(t, host)
			ctx, stop := context.WithCancel(t.Context())
			swaps := make(chan int, 1)
			go func() {
				n := 0
				for ctx.Err() == nil {
					if unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, place), unix.AT_FDCWD, filepath.Join(root, "swap"), unix.RENAME_EXCHANGE) == nil {
						n++
					}
				}
				swaps <- n
			}()
			ran := 0
			for i := range containers {
				c, err := tryStart(testContext(t), t, request{id: fmt.Sprintf("%s-%d", identifier(t), i), gpu: "1", rootfs: root})
				if err == nil {
					ran++
				}
				c.remove(t)
			}
			stop()
			n := <-swaps
			if t.Logf("%d of %d ran, %d exchanges", ran, containers, n); n == 0 {
				t.Error("no race: nothing was exchanged")
			}
			if after := listing(t, host); after != before {
				t.Errorf("the host had\n%sand has\n%s", before, after)
			}
		})
	}
}
