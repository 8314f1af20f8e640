// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const mapped = 100_000 // the container's root on the host

func TestFilesBelongToTheContainersRoot(t *testing.T) {
	im := newImage(t)
	for _, p := range []string{"", "etc"} {
		if err := os.Chown(im.at(p), mapped, mapped); err != nil {
			t.Fatal(err)
		}
	}
	im.reopen(mapped)
	im.change3(t)
	for _, p := range []string{"/etc/dir", "/etc/f", "/etc/l"} {
		if st, err := im.Lstat(p); err != nil || st.Uid != mapped || st.Gid != mapped {
			t.Errorf("%s belongs to %d:%d, %v", p, st.Uid, st.Gid, err)
		}
	}
	// As the container's root, and not as the host's, whose directory this is.
	if err := os.Mkdir(im.at("etc/hosts-own"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := im.WriteFile("/etc/hosts-own/f", nil, 0o644); !errors.Is(err, unix.EACCES) {
		t.Errorf("write into a directory of the host's root: %v", err)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil || !strings.Contains(string(status), "Uid:\t0\t0\t0\t0\n") {
		t.Errorf("a thread kept the ids: %v\n%s", err, status)
	}
}

// On an idmapped mount the host's root is nobody: what it makes is EOVERFLOW.
func TestIdmappedMount(t *testing.T) {
	for _, fs := range []string{"tmpfs", "the directory's own"} {
		t.Run(fs, func(t *testing.T) {
			im := newImage(t)
			im.shut()
			source := mount(t, fs)
			if err := os.Mkdir(filepath.Join(source, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			idmap(t, source, im.dir)
			im.reopen(0)
			err := im.WriteFile("/etc/f", nil, 0o644)
			if !errors.Is(err, unix.EOVERFLOW) || !strings.Contains(err.Error(), "not mapped") {
				t.Errorf("as the host's root: %v", err)
			}
			im.shut()

			im.reopen(mapped)
			defer im.shut()
			im.change3(t)
			for _, p := range []string{"etc/dir", "etc/f", "etc/l"} {
				st, err := os.Lstat(filepath.Join(source, p))
				if err != nil {
					t.Fatal(err)
				}
				if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 0 || sys.Gid != 0 {
					t.Errorf("%s belongs to %d:%d in the source of the mount", p, sys.Uid, sys.Gid)
				}
			}
		})
	}
}

// change3 makes one thing of each kind, twice: the second time it replaces.
func (im image) change3(t *testing.T) {
	t.Helper()
	for _, target := range []string{"one", "two"} {
		if err := errors.Join(im.MkdirAll("/etc/dir/sub"), im.WriteFile("/etc/f", []byte(target), 0o644), im.Symlink(target, "/etc/l")); err != nil {
			t.Fatal(err)
		}
	}
}

// containerd gives a user namespace an overlay of this kind: its lower layers are
// idmapped mounts, its upper directory is the container's root's.
func TestOverlayOfIdmappedLayers(t *testing.T) {
	im := newImage(t)
	im.shut()
	layer, lower, upper, work := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(layer, "etc"), 0o755), os.Symlink("zero", filepath.Join(layer, "etc/l")),
		os.Chown(upper, mapped, mapped)); err != nil {
		t.Fatal(err)
	}
	idmap(t, layer, lower)
	if err := unix.Mount("overlay", im.dir, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		t.Skipf("needs overlays of idmapped layers: %v", err)
	}
	defer unix.Unmount(im.dir, unix.MNT_DETACH)
	im.reopen(mapped)
	defer im.shut()
	im.change3(t)
	for _, p := range []string{"/etc/dir", "/etc/f", "/etc/l"} {
		if st, err := im.Lstat(p); err != nil || st.Uid != mapped || st.Gid != mapped {
			t.Errorf("%s belongs to %d:%d, %v", p, st.Uid, st.Gid, err)
		}
	}
}

// mount gives a directory of a file system of this kind.
func mount(t *testing.T, fs string) string {
	dir := t.TempDir()
	if fs != "tmpfs" {
		return dir
	}
	if err := unix.Mount(fs, dir, fs, 0, ""); err != nil {
		t.Skipf("needs to mount %s: %v", fs, err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// idmap mounts source on target with ids moved up by mapped.
func idmap(t *testing.T, source, target string) {
	t.Helper()
	ids := []syscall.SysProcIDMap{{HostID: mapped, Size: 65536}}
	holder := exec.Command("cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Skipf("needs user namespaces: %v", err)
	}
	defer holder.Wait()
	defer io.Closer(stdin).Close()
	ns, err := unix.Open("/proc/"+strconv.Itoa(holder.Process.Pid)+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ns)
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		t.Skipf("needs idmapped mounts of this file system: %v", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}
