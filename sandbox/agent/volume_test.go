// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// newVolume is a copy, not made yet, of a volume with one directory of data.
func newVolume(t *testing.T, data string, files map[string]string) *volume {
	t.Helper()
	dir := t.TempDir()
	v := &volume{gate: make(chan struct{}, 1), from: filepath.Join(dir, "from"), to: filepath.Join(dir, "to")}
	v.write(t, data, files)
	return v
}

// write makes a directory of data in the volume.
func (v *volume) write(t *testing.T, data string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(v.from, data, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o440)); err != nil {
			t.Fatal(err)
		}
	}
}

// A change of the copy is seen by inotify in the order in which kubelet makes
// one: all that is new, the link, and then the end of the old.
func TestVolumeChange(t *testing.T) {
	v := newVolume(t, "..1", map[string]string{"a": "one", "gone": "x", "dir/b": "two"})
	if err := v.change("..1"); err != nil {
		t.Fatal(err)
	}
	v.write(t, "..2", map[string]string{"a": "three", "dir/b": "four", "new": "five"})
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.InotifyAddWatch(fd, v.to, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	if err := v.change("..2"); err != nil {
		t.Fatal(err)
	}
	want := []string{"create ..2", "create ..data_tmp", "moved ..data", "create new", "delete gone", "delete ..1"}
	if got := events(t, fd); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	for name, want := range map[string]string{"a": "three", "dir/b": "four", "new": "five"} {
		if got, err := os.ReadFile(filepath.Join(v.to, name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(v.to, "a")); err != nil || info.Mode().Perm() != 0o440 {
		t.Errorf("mode: %v, %v", info, err)
	}
	if err := v.change("..2"); err != nil || len(events(t, fd)) != 0 {
		t.Errorf("the same once more: %v, or something happened", err)
	}
}

// A change that fails leaves the copy as it was.
func TestVolumeChangeFails(t *testing.T) {
	v := newVolume(t, "..1", map[string]string{"a": "one"})
	if err := v.change("..1"); err != nil {
		t.Fatal(err)
	}
	v.write(t, "..big", map[string]string{"a": strings.Repeat("x", maxVolume+1)})
	v.write(t, "..odd", map[string]string{"a": "x"})
	if err := unix.Mkfifo(filepath.Join(v.from, "..odd", "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for data, is := range map[string]func(error) bool{
		"..big": func(err error) bool { return errors.Is(err, errVolumeSize) },
		"..odd": errdefs.IsInvalidArgument, "..gone": errdefs.IsNotFound,
		"../from/..1": errdefs.IsInvalidArgument, "..": errdefs.IsInvalidArgument, "..data": errdefs.IsInvalidArgument,
		"": errdefs.IsInvalidArgument, "1": errdefs.IsInvalidArgument,
	} {
		if err := v.change(data); !is(err) {
			t.Errorf("%s: %v", data, err)
		}
		if got, err := os.ReadFile(filepath.Join(v.to, "a")); string(got) != "one" {
			t.Errorf("after %s: %q, %v", data, got, err)
		}
		if _, err := os.Lstat(filepath.Join(v.to, data)); data == "..big" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", data, err)
		}
	}
}

// A volume that is too large for a copy is mounted as it is, and one whose data
// was replaced since the host looked is copied as it is now.
func TestCopyVolumes(t *testing.T) {
	share := t.TempDir()
	s := &server{cfg: Config{Share: share}}
	c := &container{id: "c", bundle: t.TempDir()}
	for name, text := range map[string]string{"0": strings.Repeat("x", maxVolume+1), "1": "new"} {
		dir := filepath.Join(share, "c", name)
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "..2"), 0o755), os.Symlink("..2", filepath.Join(dir, "..data")),
			os.WriteFile(filepath.Join(dir, "..2", "a"), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := s.copyVolumes(c, []*agentapi.Volume{{Name: "0", Data: "..2"}, {Name: "1", Data: "..1"}})
	if err != nil || len(sources) != 1 {
		t.Fatalf("%v, %v", sources, err)
	}
	if got, err := os.ReadFile(filepath.Join(sources[filepath.Join(share, "c", "1")], "a")); string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"..", "a/b", ""} {
		if _, err := s.copyVolumes(c, []*agentapi.Volume{{Name: name, Data: "..2"}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A copy does not change under the end of its container.
func TestRefreshWhileDeleted(t *testing.T) {
	v := newVolume(t, "..1", map[string]string{"a": "one"})
	c := &container{id: "c", volumes: map[string]*volume{"v": v}}
	s := &server{containers: map[string]*container{"c": c}}
	refresh := func() error {
		_, err := s.Refresh(t.Context(), &agentapi.RefreshRequest{Container: "c", Volume: &agentapi.Volume{Name: "v", Data: "..1"}})
		return err
	}
	if err := refresh(); err != nil {
		t.Fatal(err)
	}
	v.gate <- struct{}{} // a change is under way
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.endVolumes(late); !errors.Is(err, context.Canceled) {
		t.Errorf("it does not wait for it: %v", err)
	}
	<-v.gate
	if err := c.endVolumes(t.Context()); err != nil {
		t.Error(err)
	}
	if err := refresh(); !errdefs.IsNotFound(err) {
		t.Errorf("a change afterwards: %v", err)
	}
}

// events are those that have come.
func events(t *testing.T, fd int) (all []string) {
	t.Helper()
	buf := make([]byte, 4<<10)
	n, err := unix.Read(fd, buf)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for b := buf[:n]; len(b) > 0; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		what := map[uint32]string{unix.IN_CREATE: "create", unix.IN_MOVED_TO: "moved", unix.IN_DELETE: "delete"}[e.Mask&^unix.IN_ISDIR]
		all = append(all, what+" "+unix.ByteSliceToString(b[unix.SizeofInotifyEvent:end]))
		b = b[end:]
	}
	return all
}
