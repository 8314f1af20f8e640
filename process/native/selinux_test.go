// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"
)

// What processes and files are labelled, by the names of the usual container
// policy, with categories of which a container has some and no other's.
const (
	selinuxAttr  = "security.selinux"
	processLabel = "system_u:system_r:container_t:s0:c1,c2"
	execLabel    = "system_u:system_r:container_init_t:s0:c1,c2"
	mountLabel   = "system_u:object_r:container_file_t:s0:c1,c2"
	foreignLabel = "system_u:object_r:container_file_t:s0:c3"
)

func needSELinux(t *testing.T) {
	t.Helper()
	if !selinux.GetEnabled() {
		skipWithout(t, "selinux", "this kernel runs without SELinux")
	}
	if selinux.EnforceMode() != selinux.Enforcing {
		skipWithout(t, "selinux", "SELinux enforces nothing here")
	}
	for _, label := range []string{processLabel, execLabel, mountLabel, foreignLabel} {
		if err := selinux.SecurityCheckContext(label); err != nil {
			skipWithout(t, "selinux", fmt.Sprintf("the policy has no %s: %v", label, err))
		}
	}
}

// intrude prints the label of a process, what it can read, and whether its
// session keyring is one that it may see.
const intrude = `cat /truth/self/attr/current | tr -d "\0"; echo
	for name in own foreign host; do cat /files/$name 2>/dev/null; done
	grep -q _ses.nat /truth/keys && echo keyring`

// What intrude prints under each label. The host may everything. An exec with a
// label of its own enters the session keyring of the init's label, and may not see it.
const (
	asProcess = processLabel + "\nown\nkeyring\n"
	asExec    = execLabel + "\nown\n"
)

// newLabelled makes a container of files that it may use, and some in /files that
// it may not.
func newLabelled(t *testing.T) *box {
	b := newTeller(t, intrude)
	for _, dir := range []string{"files", "copied"} {
		b.must(os.Mkdir(filepath.Join(b.rootfs, dir), 0o755))
	}
	b.must(os.WriteFile(filepath.Join(b.rootfs, "copied/file"), nil, 0o644))
	b.must(filepath.WalkDir(b.rootfs, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.Lsetxattr(path, selinuxAttr, []byte(mountLabel), 0)
	}))
	files := t.TempDir()
	for name, label := range map[string]string{"own": mountLabel, "foreign": foreignLabel, "host": ""} {
		path := filepath.Join(files, name)
		b.must(os.WriteFile(path, []byte(name+"\n"), 0o644))
		if label != "" {
			b.must(unix.Setxattr(path, selinuxAttr, []byte(label), 0))
		}
	}
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/files", Type: "bind", Source: files, Options: []string{"bind"}},
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance"}},
		specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm"},
		specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue"},
		specs.Mount{Destination: "/copied", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
	)
	b.spec.Linux.MaskedPaths = []string{"/mnt"}
	return b
}

// mountLabels are those of the root of each mount that the library makes.
func (b *box) mountLabels(root string) string {
	var all strings.Builder
	for _, path := range []string{"dev", "dev/null", "dev/pts", "dev/shm", "dev/mqueue", "copied", "copied/file", "mnt", "proc"} {
		label := make([]byte, 128)
		n, err := unix.Getxattr(filepath.Join(root, path), selinuxAttr, label)
		b.must(err)
		fmt.Fprintf(&all, "%s %s\n", path, strings.TrimRight(string(label[:n]), "\x00"))
	}
	return all.String()
}

// Processes have the label that is asked for them, and with it no access to what
// is not theirs; their keyring has it too.
func TestSELinux(t *testing.T) {
	needSELinux(t)
	host, err := selinux.CurrentLabel()
	if err != nil {
		t.Fatal(err)
	}
	asHost := host + "\nown\nforeign\nhost\nkeyring\n"
	for _, c := range []struct {
		name               string
		init, exec         string // labels
		edit               func(*box)
		wantInit, wantExec string
	}{
		{"none", "", "", nil, asHost, asHost},
		{"a label", processLabel, "", nil, asProcess, asProcess},
		{"an exec with its own", processLabel, execLabel, nil, asProcess, asExec},
		{"an exec alone", "", execLabel, nil, asHost, asExec},
		{"no new privileges", processLabel, execLabel, noNewPrivileges, asProcess, asExec},
		{"user namespace", processLabel, "", inUserNamespace, asProcess, asProcess},
		{"an image with its own proc", processLabel, execLabel, (*box).fakeProc, asProcess, asExec},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			b := newLabelled(t)
			if c.edit != nil {
				c.edit(b)
			}
			exec := b.teller(intrude, func(p *specs.Process) { p.SelinuxLabel = c.exec })
			b.spec.Process.SelinuxLabel, b.spec.Linux.MountLabel = c.init, mountLabel
			if got, want := b.tell(exec, nil), (told{init: c.wantInit, exec: c.wantExec}); got != want {
				t.Errorf("it tells\n%+v, want\n%+v", got, want)
			}
		})
	}
}

// What is mounted for a container has its label for files, procfs excepted.
func TestSELinuxMounts(t *testing.T) {
	needSELinux(t)
	b := newLabelled(t)
	b.spec.Process.SelinuxLabel, b.spec.Linux.MountLabel = processLabel, mountLabel
	for line := range strings.Lines(b.tell(b.teller("true", nil), b.mountLabels).files) {
		path, label, _ := strings.Cut(strings.TrimSpace(line), " ")
		if is := label == mountLabel; is != (path != "proc") {
			t.Errorf("/%s is labelled %s", path, label)
		}
	}
}

// A label that the policy does not know is refused, in runc's words.
func TestSELinuxLabelUnknown(t *testing.T) {
	needSELinux(t)
	const unknown = "system_u:system_r:berth_test_t:s0"
	for _, c := range []struct {
		name string
		edit func(b *box, exec *specs.Process)
	}{
		{"init", func(b *box, _ *specs.Process) { b.spec.Process.SelinuxLabel = unknown }},
		{"exec", func(_ *box, exec *specs.Process) { exec.SelinuxLabel = unknown }},
		{"mounts", func(b *box, _ *specs.Process) { b.spec.Linux.MountLabel = unknown }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newLabelled(t)
			exec := b.teller("echo runs", nil)
			c.edit(b, exec)
			got := b.tell(exec, nil)
			t.Logf("%s", got.err)
			if got.err == "" || got.exec != "" {
				t.Errorf("it tells %+v, want an error", got)
			}
		})
	}
}
