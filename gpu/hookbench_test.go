// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/hooks"
	"berth/test/fakedriver"
)

// BenchmarkHook is all that the hook does for one container, with a warm cache,
// on a root file system that has a loader and a cache of some 600 libraries.
func BenchmarkHook(b *testing.B) {
	for name, edit := range map[string]func(*specs.Spec){
		"1": func(*specs.Spec) {},
		"all": func(s *specs.Spec) {
			s.Annotations[AnnotationPrefix+"gpu"], s.Annotations[AnnotationPrefix+"gpu-capabilities"] = "all", "all"
		},
	} {
		b.Run(name, func(b *testing.B) {
			_, r := machine(b, fakedriver.Config{GPUs: 8, Compat32: true})
			h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
			template := bundle(b, changed(container("1"), edit))
			for _, dir := range []string{"etc", "lib64"} {
				if err := os.Mkdir(filepath.Join(template, "rootfs", dir), 0o755); err != nil {
					b.Fatal(err)
				}
			}
			write(b, filepath.Join(template, "rootfs/lib64/ld-linux-x86-64.so.2"), "")
			cache, err := os.ReadFile("/etc/ld.so.cache")
			if err != nil {
				b.Skip("missing capability: a loader's cache on this host")
			}
			write(b, filepath.Join(template, "rootfs/etc/ld.so.cache"), string(cache))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				dir := filepath.Join(b.TempDir(), "b")
				if out, err := exec.Command("cp", "-a", template, dir).CombinedOutput(); err != nil {
					b.Fatal(string(out))
				}
				b.StartTimer()
				spec, err := hooks.LoadSpec(dir, "c")
				if err != nil {
					b.Fatal(err)
				}
				chain := hooks.Chain{h}
				if err := chain.Create(b.Context(), spec); err != nil {
					b.Fatal(err)
				}
				if err := chain.Mounted(b.Context(), spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
