// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
)

// TestLibraryThatIsNone has a client mount, where CDI's hook would look for
// libraries, what does something when it is opened: it is left alone.
func TestLibraryThatIsNone(t *testing.T) {
	_, r := machine(t, fakedriver.Config{})
	dir := t.TempDir()
	names := map[string]func(string) error{
		"libfifo.so":   func(p string) error { return unix.Mkfifo(p, 0o600) },
		"libdevice.so": func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(195, 0))) },
		"libdir.so":    func(p string) error { return os.Mkdir(p, 0o700) },
		"libtext.so":   func(p string) error { return os.WriteFile(p, []byte("no library"), 0o600) },
		"liblink.so":   func(p string) error { return os.Symlink("libfifo.so", p) },
	}
	spec := changed(container("1"), func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{cdiHookOf("update-ldcache", "--folder", "/l")}}
		for name, create := range names {
			if err := create(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			s.Mounts = append(s.Mounts, specs.Mount{Source: filepath.Join(dir, name), Destination: "/l/" + name})
		}
	})
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	for _, name := range []string{"libfifo.so", "libdevice.so"} {
		if _, err := unix.InotifyAddWatch(watch, filepath.Join(dir, name), unix.IN_OPEN); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := (&Planner{Roots: r}).Plan(t.Context(), spec)
	if err != nil || len(plan.loader.libraries) != 0 {
		t.Errorf("libraries %+v, %v", plan.loader.libraries, err)
	}
	if n, err := unix.Read(watch, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("it was opened: %d bytes of events, %v", n, err)
	}
	if _, err := readLibrary(filepath.Join(dir, "libfifo.so")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
}
