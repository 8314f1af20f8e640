// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// Directories are made with the mode that was asked for, whatever the umask is;
// one that is there is kept, and nothing else may be there.
func TestMakeDirectories(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	root := t.TempDir()
	outside := t.TempDir()
	for name, target := range map[string]string{"absolute": outside, "inner": "kept"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "kept"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "kept"), 0o711); err != nil {
		t.Fatal(err)
	}
	make := func(name string) error {
		return makeDirectories(root, []*agentapi.Directory{
			{Name: name, Mode: 0o755, Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())},
		})
	}
	for name, want := range map[string]os.FileMode{"new": 0o755, "kept": 0o711} {
		if err := make(name); err != nil {
			t.Error(err)
		}
		if info, err := os.Lstat(filepath.Join(root, name)); err != nil || !info.IsDir() || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", name, info, err, want)
		}
	}
	for _, name := range []string{"absolute", "inner", "../above", "absolute/below"} {
		if err := make(name); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
}

// A file system is mounted where such are, and nowhere else.
func TestMountsHaveAPlace(t *testing.T) {
	dir := t.TempDir()
	s := &server{cfg: Config{DiskDir: dir}}
	for _, target := range []string{"/etc", dir, dir + "/../x", dir + "x/y"} {
		c := &container{}
		err := s.makeMounts(t.Context(), c, []*agentapi.Mount{{Type: "tmpfs", Target: target}})
		if err == nil || len(c.mounts) != 0 {
			t.Errorf("%s: %v, %v", target, err, c.mounts)
		}
	}
}

// What is bound is on the disk: a link in its image leads nowhere.
func TestBindFollowsNoLink(t *testing.T) {
	disk, target, own := t.TempDir(), t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink(own, filepath.Join(disk, "upper")), os.MkdirAll(filepath.Join(disk, "plain/dir"), 0o755),
		os.Symlink("plain", filepath.Join(disk, "way"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what has been bound if a link was followed, too
		for unix.Unmount(target, unix.MNT_DETACH) == nil {
		}
	})
	s := &server{}
	bind := func(name string) error {
		return s.makeMount(t.Context(), &agentapi.Mount{Type: "bind", Source: filepath.Join(disk, name), Target: target})
	}
	for _, name := range []string{"upper", "way/dir"} {
		if err := bind(name); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: nothing can be mounted")
	}
	if err := bind("plain/dir"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Error(err)
	}
}
