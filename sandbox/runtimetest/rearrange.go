// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A container that has got at the root of the pod's share changes nothing of where
// the host mounts. The host then deletes it, and the other, and what was shared is
// what it was (CVE-2020-2024, CVE-2020-2026).
func testShareAttacked(r *Pod, runDir string) {
	volume, file := filepath.Join(r.dir, "volume"), filepath.Join(r.dir, "file")
	r.must(os.Mkdir(volume, 0o755))
	r.must(os.WriteFile(file, nil, 0o644))
	r.must(os.Mkdir(filepath.Join(r.rootfs, "volume"), 0o755))
	r.must(os.Mkdir(filepath.Join(r.rootfs, "ro"), 0o755))
	r.must(os.WriteFile(filepath.Join(r.rootfs, "file"), nil, 0o644))
	r.payload("rearrange")
	victim := r.Box("victim", "sleep 1000")
	b := r.Box("a", "rearrange /file; /bin/busybox mount -o remount,bind,rw /ro && { > /ro/new; } 2>&1")
	for _, x := range []*Box{victim, b} {
		x.spec.Mounts = append(x.spec.Mounts,
			specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"bind"}},
			specs.Mount{Destination: "/file", Type: "bind", Source: file, Options: []string{"bind"}},
			specs.Mount{Destination: "/ro", Type: "bind", Source: volume, Options: []string{"bind", "ro"}})
	}
	b.can("CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_CHOWN", "CAP_FOWNER")
	victim.Run()
	c := r.client("a", false)
	b.stdio = c.Stdio
	b.Run().Wait("")
	got := shareOf(r, runDir)
	b.Delete("")
	c.finish()
	var want []string
	for _, id := range []string{b.ID, victim.ID} {
		want = append(want, id, id+"/1", id+"/2", id+"/3", id+"/rootfs")
	}
	if !slices.Equal(got, want) {
		r.Errorf("the host mounts at %q, want %q", got, want)
	}
	refused, remounted := 0, false
	for line := range strings.Lines(c.out.String()) {
		what, says, found := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case found && strings.EqualFold(says, unix.EROFS.Error()):
			refused++
		case what == "/bin/sh" && strings.HasSuffix(line, "/ro/new: Read-only file system\n"):
			remounted = true // in the guest, which is not enough
		case found || !strings.HasPrefix(what, "looking at "):
			r.Errorf("the share: %s", line)
		}
	}
	if looked := strings.Count(c.out.String(), "looking at "); looked != 2 || refused != 2+looked*11 {
		r.Errorf("%d containers were looked at, and %d attempts refused", looked, refused)
	}
	if !remounted {
		r.Errorf("a read-only volume was not mounted again: %s", c.err.String())
	}
	if got, _ := os.ReadFile(file); string(got) != "written" {
		r.Errorf("the file that it may write to has %q", got)
	}
	r.must(victim.C.Kill(r.ctx(), "", unix.SIGKILL, false))
	victim.Wait("")
	victim.Delete("")
	if left := shareOf(r, runDir); len(left) != 0 {
		r.Errorf("%q is left in the share", left)
	}
}

// payload builds a program of testdata into the root file system.
func (r *Pod) payload(name string) {
	r.Helper()
	defer r.host.Supervisor.Spare().Release() // its exit is this caller's to wait for
	cmd := exec.Command("go", "build", "-o", filepath.Join(r.rootfs, "bin", name), "berth/sandbox/runtimetest/testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.Fatalf("build %s: %v: %s", name, err, out)
	}
}

// shareOf lists the directories and the mount points of the one pod there is.
func shareOf(r *Pod, runDir string) (names []string) {
	r.Helper()
	dirs, err := filepath.Glob(filepath.Join(runDir, "test", "*", "mounts"))
	r.must(err)
	for _, dir := range dirs {
		r.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil || name == "." {
				return err
			}
			if d.Type()&fs.ModeSymlink != 0 {
				return fmt.Errorf("%s is a link", path)
			}
			names = append(names, name)
			if strings.Contains(name, "/") && d.IsDir() {
				return fs.SkipDir // what is in a volume is another matter
			}
			return nil
		}))
	}
	return names
}
