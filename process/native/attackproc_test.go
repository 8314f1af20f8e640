// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// CVE-2025-52881: what the library writes into /proc for a container goes to
// what stands there for the file: sysctls, and the label of the security module,
// without which the container then runs. The label is tried where the kernel has
// such a module (TestAppArmor, TestSELinux); it takes the same way as the sysctls, of
// which the first three cases tell. A link in a true procfs cannot be had without another
// container's help at the right moment: here there is none at the place, or a
// mount in it.
func TestProcIsProcfs(t *testing.T) {
	const key, value = "net.ipv4.ip_default_ttl", "77"
	file := filepath.Join("sys", "net/ipv4/ip_default_ttl")
	noProc := func(b *box) string {
		b.spec.Mounts = slices.DeleteFunc(b.spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
		dir := filepath.Join(b.rootfs, "proc", filepath.Dir(file))
		b.must(os.MkdirAll(dir, 0o755))
		return dir
	}
	bind := func(b *box, destination string) {
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: destination, Type: "bind", Source: b.bundle, Options: []string{"bind"}})
	}
	for _, c := range []struct {
		name   string
		stage  func(b *box)
		reason string // empty: the container is made, with the sysctl in force
	}{
		{"none", func(*box) {}, ""},
		{"a link for the file", func(b *box) { b.link("/victim", noProc(b), filepath.Base(file)) }, ""},
		{"a file for the file", func(b *box) {
			b.must(os.Link(filepath.Join(b.rootfs, "victim"), filepath.Join(noProc(b), filepath.Base(file))))
		}, ""},
		{"proc a link", func(b *box) {
			b.must(os.Remove(filepath.Join(b.rootfs, "proc")))
			b.link("/tmp", b.rootfs, "proc")
		}, "must be mounted on ordinary directory"},
		{"a mount on sysctls", func(b *box) { bind(b, "/proc/sys/net/ipv4") }, "is inside /proc"},
		{"a mount on labels", func(b *box) { bind(b, "/proc/self/attr") }, "is inside /proc"},
		{"a mount on labels by a link", func(b *box) {
			b.link("/proc", b.rootfs, "link")
			bind(b, "/link/self/attr")
		}, "is inside /proc"},
		{"a mount on proc", func(b *box) { bind(b, "/proc") }, "not of type proc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, "test $(cat /truth/"+file+") = "+value+" && exit 42")
			victim := filepath.Join(b.rootfs, "victim")
			b.must(os.WriteFile(victim, nil, 0o666))
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/truth", Type: "proc", Source: "proc"})
			b.spec.Linux.Sysctl = map[string]string{key: value}
			c.stage(b)
			if c.reason != "" {
				b.refused(nil, c.reason)
			} else if status := b.status(b.run(nil)); status != 42 {
				t.Errorf("the sysctl is not in force: the script ends with %d", status)
			}
			b.wantText(victim, "")
		})
	}
}
