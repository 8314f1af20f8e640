// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
