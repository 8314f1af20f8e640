// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process/oci"
)

// outlook prints what a process can see of how it was made, but not when.
const outlook = `
	undated() { sed 's/ [A-Z][a-z][a-z] [ 0-9]* [0-9:]* / /'; }
	grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Cpus_allowed_list|SigBlk|SigIgn)' /proc/self/status
	cat /proc/self/uid_map /proc/self/gid_map /proc/self/limits /proc/self/oom_score_adj
	cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_unprivileged_port_start
	cut -d ' ' -f 4- /proc/self/mountinfo
	ls -l /dev | undated; cat /proc/self/cgroup; umask; pwd
	cat /proc/self/environ
	readlink /proc/self/fd/0`

// A container, and an exec in it, look the same from inside by whichever driver
// they were made.
func TestSameFromInside(t *testing.T) {
	needRunc(t)
	for name, edit := range map[string]func(*box){
		"plain": func(*box) {},
		"CRI":   func(b *box) { fill(b.spec) },
		"user namespace": func(b *box) {
			if l := landHere(); l != nil && l.cgroups {
				// cgroup v1 lets a user move no process of another's, the library stops at the first
				// cgroup of a map that refuses, and for such a user says nothing.
				b.Skip("in which cgroups an exec is hangs on the order of a map")
			}
			inUserNamespace(b)
		},
		"idmapped mount": func(b *box) {
			ids := otherIDs(b)
			b.must(os.Mkdir(filepath.Join(b.rootfs, "mnt"), 0o755))
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
				Destination: "/mnt", Type: "bind", Source: idmappable(b), Options: []string{"bind"}, UIDMappings: ids, GIDMappings: ids,
			})
			b.spec.Process.Args[2] = strings.Replace(b.spec.Process.Args[2], "; echo end", "; ls -ln /mnt | undated; echo end", 1)
		},
		"cgroup namespace no-pivot": func(b *box) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBox(t, outlook+"; echo end; sleep 1000")
			b.spec.Process.Args[0] = "/bin/sh"
			for _, applet := range []string{"grep", "cut"} {
				b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin", applet)))
			}
			edit(b)
			if !seccomp.Enabled {
				b.spec.Linux.Seccomp = nil
			}
			b.write()
			exec := *b.spec.Process
			exec.Args = []string{"/bin/sh", "-c", outlook + "; echo end"}
			process, err := json.Marshal(exec)
			b.must(err)
			seen, states := map[string][2]string{}, map[string]map[string]any{}
			noPivot := strings.Contains(name, "no-pivot")
			for name, d := range map[string]driver{"native": b.driver, "command": b.cli()} {
				init, out := newOutput(t), newOutput(t)
				p, err := d.Create(t.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle, Streams: init, NoNewKeyring: true, NoPivotRoot: noPivot})
				b.must(err)
				b.must(d.Start(t.Context(), b.id))
				b.until("the init has said all", func() bool { return strings.HasSuffix(init.text(), "end\n") })
				e, err := d.Exec(t.Context(), &oci.ExecRequest{ID: b.id, ExecID: "e", Bundle: b.bundle, Process: process, Streams: out})
				b.must(err)
				b.status(e)
				states[name] = b.state()
				b.kill(p)
				b.must(d.Delete(t.Context(), b.id, false))
				seen[name] = [2]string{init.text(), out.text()}
			}
			wantSame(t, "state", states["command"], states["native"])
			// By which of the two a root file system is entered cannot be seen from inside.
			config, _ := states["native"]["config"].(map[string]any)
			if set, _ := config["no_pivot_root"].(bool); set != noPivot {
				t.Errorf("no_pivot_root is %v", config["no_pivot_root"])
			}
			for i, who := range []string{"init", "exec"} {
				native, command := strings.Split(seen["native"][i], "\n"), strings.Split(seen["command"][i], "\n")
				if len(native) < 40 {
					t.Errorf("%s said no more than %q", who, native)
				}
				for n := range min(len(native), len(command)) {
					if native[n] != command[n] {
						t.Errorf("%s:\n native  %s\n command %s", who, native[n], command[n])
					}
				}
				if len(native) != len(command) {
					t.Errorf("%s: %d lines and %d", who, len(native), len(command))
				}
			}
		})
	}
}

// inUserNamespace gives the container a user namespace of its own.
func inUserNamespace(b *box) {
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	ids := otherIDs(b)
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = ids, ids
	// The image's directory is root's alone on the way.
	for dir := b.rootfs; dir != os.TempDir(); dir = filepath.Dir(dir) {
		b.must(os.Chmod(dir, 0o755))
	}
}

// otherIDs are some that are not those of this process.
func otherIDs(b *box) []specs.LinuxIDMapping {
	if !landHere().manyIDs() {
		b.Skip("there is one id here")
	}
	first := uint32(100000)
	if landHere() != nil { // it has 65536
		first = 10000
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: 20000}}
}

// idmappable is a directory on a file system that can be mounted with other
// owners, with a file of root's.
func idmappable(b *box) string {
	b.Helper()
	var kernel unix.Utsname
	b.must(unix.Uname(&kernel))
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(kernel.Release[:]), "%d.%d", &major, &minor); err != nil || major*100+minor < 603 {
		b.Skipf("this kernel, %d.%d, cannot map the owners of a tmpfs: Linux 6.3 can", major, minor)
	}
	dir := b.TempDir()
	b.must(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	b.Cleanup(func() { b.must(unix.Unmount(dir, 0)) })
	b.must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	return dir
}
