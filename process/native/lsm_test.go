// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process/oci"
)

// skipWithout skips what needs a security module of this kernel's: for this
// reason, which is a failure in the lane that promises the module.
func skipWithout(t *testing.T, module, reason string) {
	t.Helper()
	if os.Getenv("BERTH_LSM") == module {
		t.Fatalf("BERTH_LSM promises %s: %s", module, reason)
	}
	t.Skip(reason)
}

// told is what a container tells of itself, or the error of its creation or
// exec.
type told struct {
	init, exec string
	files      string // labels of files, as the host sees them
	err        string
}

// newTeller makes a container whose processes tell what a script prints. They
// have all capabilities, and the truth about themselves in /truth, whatever is at
// /proc.
func newTeller(t *testing.T, script string) *box {
	b := newBox(t, script+"; echo end; sleep 1000")
	for _, applet := range []string{"mount", "grep", "tr"} {
		b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin", applet)))
	}
	b.must(os.Mkdir(filepath.Join(b.rootfs, "mnt"), 0o755))
	b.must(os.Mkdir(filepath.Join(b.rootfs, "truth"), 0o755))
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/truth", Type: "proc", Source: "proc"})
	caps := []string{"CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	return b
}

// teller is an exec of the script, as the init but for what edit changes.
func (b *box) teller(script string, edit func(*specs.Process)) *specs.Process {
	p := *b.spec.Process
	p.Args = []string{"/bin/sh", "-c", script}
	p.ApparmorProfile, p.SelinuxLabel = "", ""
	if edit != nil {
		edit(&p)
	}
	return &p
}

func noNewPrivileges(b *box) { b.spec.Process.NoNewPrivileges = true }

// fakeProc has the image bring a /proc of its own, in which what the library
// writes for a security module are files like others.
func (b *box) fakeProc() {
	b.Helper()
	b.spec.Mounts = slices.DeleteFunc(b.spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
	for _, dir := range []string{"self", "thread-self", "1"} {
		for _, file := range []string{"exec", "apparmor/exec", "keycreate"} {
			path := filepath.Join(b.rootfs, "proc", dir, "attr", file)
			b.must(os.MkdirAll(filepath.Dir(path), 0o755))
			b.must(os.WriteFile(path, nil, 0o666))
		}
	}
	// Read there, too, by what sets capabilities.
	b.must(os.MkdirAll(filepath.Join(b.rootfs, "proc/sys/kernel"), 0o755))
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	b.must(err)
	b.must(os.WriteFile(filepath.Join(b.rootfs, "proc/sys/kernel/cap_last_cap"), last, 0o444))
	b.Cleanup(func() {
		written, err := b.host(filepath.Join(b.rootfs, "proc"), "find . -path '*/attr/*' -type f -size +0")
		if err != nil || written != "" {
			b.Errorf("the image's own /proc was written to: %s, %v", written, err)
		}
	})
}

// tell has the library make the container and the exec, and the command line
// too where there is one, and checks that they tell the same. look is given the
// root directory of the init.
func (b *box) tell(exec *specs.Process, look func(root string) string) told {
	b.Helper()
	b.write()
	process, err := json.Marshal(exec)
	b.must(err)
	native := b.tellBy(b.driver, process, look)
	if runc == "" {
		return native
	}
	if command := b.tellBy(b.cli(), process, look); native != command {
		b.Errorf("they tell different things:\n native  %+v\n command %+v", native, command)
	}
	return native
}

func (b *box) tellBy(d driver, process []byte, look func(root string) string) (t told) {
	b.Helper()
	init, out := newOutput(b.T), newOutput(b.T)
	if label := b.spec.Linux.MountLabel; label != "" {
		b.must(unix.Setxattr(init.f.Name(), selinuxAttr, []byte(label), 0))
		b.must(unix.Setxattr(out.f.Name(), selinuxAttr, []byte(label), 0))
	}
	p, err := d.Create(b.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle, Streams: init})
	if err != nil {
		b.nothingLeft()
		return told{err: err.Error()}
	}
	b.must(d.Start(b.Context(), b.id))
	b.until("the init has told all", func() bool { return strings.HasSuffix(init.text(), "end\n") })
	if look != nil {
		t.files = look("/proc/" + strconv.Itoa(p.Pid()) + "/root")
	}
	e, err := d.Exec(b.Context(), &oci.ExecRequest{ID: b.id, ExecID: "e", Bundle: b.bundle, Process: process, Streams: out})
	if err == nil {
		b.status(e)
		t.exec = out.text()
	} else {
		t.err = err.Error() // which the command line prints, too, where the exec would
	}
	b.kill(p)
	b.must(d.Delete(b.Context(), b.id, false))
	t.init = strings.TrimSuffix(init.text(), "end\n")
	return t
}
