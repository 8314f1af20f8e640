// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func itoa(n uint32) string { return strconv.Itoa(int(n)) }

// ldconfig prints the loader's cache below a root.
func ldconfig(t *testing.T, root string) string {
	t.Helper()
	out, err := exec.Command("/sbin/ldconfig", "-r", root, "-p").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// copied is a directory with the files of an image.
func copied(t *testing.T, image string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	if out, err := exec.Command("cp", "-a", tree(image), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// mapsMounts says whether the snapshotter can map the files' owners.
func mapsMounts(ctx context.Context, t *testing.T) bool {
	t.Helper()
	capabilities := must(shared.Client().GetSnapshotterCapabilities(ctx, shared.Snapshotter()))(t)
	return slices.Contains(capabilities, "remap-ids")
}

// listing is all that is in a directory, with sizes and contents of links.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		target, _ := os.Readlink(path)
		out.WriteString(strings.Join([]string{path, info.Mode().String(), strconv.FormatInt(info.Size(), 10), info.ModTime().String(), target}, " ") + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// left is what there is of a container on the host.
func left(t *testing.T, id string) (found []string) {
	t.Helper()
	for _, pattern := range []string{
		home.run + "/claims/*" + id + "*",
		shared.Dir() + "/state/*.runtime.v2.task/*/" + id,
		shared.Dir() + "/root/*.runtime.v2.task/*/" + id,
		"/run/containerd/runc/" + shared.ID() + "/" + id,
		"/sys/fs/cgroup/" + shared.ID() + "/" + id,
		"/sys/fs/cgroup/*/" + shared.ID() + "/" + id,
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	mounts := must(os.ReadFile("/proc/self/mountinfo"))(t)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/"+id+"/") {
			found = append(found, line)
		}
	}
	for _, p := range must(shared.Processes())(t) {
		if strings.Contains(p.Command, id) {
			found = append(found, p.Command)
		}
	}
	return found
}

// rewrite replaces a file of the machine.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
		t.Fatal(err)
	}
}

// remake gives a device node another number.
func remake(t *testing.T, path string, major, minor int) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(uint32(major), uint32(minor)))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
}

// copySMI puts the program that looks into a container that has none.
func copySMI(t *testing.T, c *container) {
	t.Helper()
	if err := install("/proc/"+itoa(c.task.Pid())+"/root/tmp/look", filepath.Join(built, "nvidia-smi")); err != nil {
		t.Fatal(err)
	}
}
