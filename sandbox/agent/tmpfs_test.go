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

// A file system in memory is made once, is no larger than there is memory for, and its
// parts are found where they are, or are made as the host says.
func TestTmpfs(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir() // where a guard that is missing would lead
	if err := os.Mkdir(filepath.Join(outside, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &server{cfg: Config{TmpfsDir: filepath.Join(dir, "tmpfs"), DiskDir: filepath.Join(dir, "disks")}}
	whole := filepath.Join(s.cfg.TmpfsDir, "cache.1")
	var made []*container
	t.Cleanup(func() {
		for _, c := range made {
			if err := c.undoMounts(); err != nil {
				t.Error(err)
			}
		}
		if err := unix.Unmount(whole, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	add := func(size uint64, target string, dirs ...*agentapi.Directory) error {
		c := new(container)
		made = append(made, c)
		return s.makeTmpfs(c, []*agentapi.Tmpfs{{
			Name: "cache.1", Size: size, Mode: 0o2770, Gid: 7, Options: []string{"nodev"}, Directories: dirs, Target: filepath.Join(s.cfg.DiskDir, target),
		}})
	}
	if err := add(1<<60, "none"); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Statfs(whole, &fs), unix.Stat(whole, &st)); err != nil || fs.Type != unix.TMPFS_MAGIC || st.Mode&0o7777 != 0o2770 || st.Gid != 7 {
		t.Errorf("made: type %x, mode %o, group %d, %v", fs.Type, st.Mode, st.Gid, err)
	}
	if size, err := memoryAvailable(); err != nil || fs.Blocks*uint64(fs.Bsize) > 2*size {
		t.Errorf("it has %d bytes, of %d that are available (%v)", fs.Blocks*uint64(fs.Bsize), size, err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(whole, "file"), []byte("x"), 0o600), os.Symlink(outside, filepath.Join(whole, "link"))); err != nil {
		t.Fatal(err)
	}

	if err := add(1<<20, "1/a", &agentapi.Directory{Name: "new", Mode: 0o3711, Gid: 8}, &agentapi.Directory{Name: "new/deep", Mode: 0o700}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(filepath.Join(whole, "new"), &st); err != nil || st.Mode&0o7777 != 0o3711 || st.Gid != 8 {
		t.Errorf("a part that was made has mode %o, group %d, %v", st.Mode, st.Gid, err)
	}
	if err := add(1<<20, "2/a", &agentapi.Directory{Name: "file"}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(s.cfg.DiskDir, "2/a")); string(text) != "x" {
		t.Errorf("a part that is a file: %q, %v", text, err)
	}
	for _, name := range []string{"link", "link/below", "..", "new/../../x"} {
		if err := add(1<<20, "3/a", &agentapi.Directory{Name: name}); err == nil {
			t.Errorf("%s leads somewhere", name)
		}
	}
	if err := s.makeTmpfs(new(container), []*agentapi.Tmpfs{{Name: "cache.1", Directories: []*agentapi.Directory{{Name: "new"}}, Target: filepath.Join(outside, "below")}}); err == nil {
		t.Error("a part was bound to a place that is not for that")
	}
	for _, name := range []string{"", "..", "a/b"} {
		if err := s.makeTmpfs(new(container), []*agentapi.Tmpfs{{Name: name, Size: 1}}); err == nil {
			t.Errorf("one of the name %q was made", name)
		}
	}
}
