// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// openShare is a share, and a directory of the host's with something to share.
func openShare(t *testing.T) (s share, host string) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	s = share{filepath.Join(dir, "share")}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the share is left: %v", err)
		}
		if err := s.close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
	})
	host = filepath.Join(dir, "host")
	for name, content := range map[string]string{"file": "one", "other": "two", "dir/inner": "three"} {
		path := filepath.Join(host, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return s, host
}

// What is bound after the share was opened is seen by who serves it: a single
// file as that file alone, a directory as it is, a link as what it leads to.
func TestShare(t *testing.T) {
	s, host := openShare(t)
	if err := os.Symlink("dir", filepath.Join(host, "link")); err != nil {
		t.Fatal(err)
	}
	err := s.add("c", []bind{
		{name: "0", source: filepath.Join(host, "file")},
		{name: "1", source: filepath.Join(host, "dir"), readOnly: true},
		{name: "2", source: filepath.Join(host, "link")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := filepath.Join(s.served(), "c")
	for name, want := range map[string]string{"0": "one", "1/inner": "three", "2/inner": "three"} {
		if got, err := os.ReadFile(filepath.Join(seen, name)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if entries, _ := os.ReadDir(seen); len(entries) != 3 {
		t.Errorf("%v is shared", entries)
	}
	// What was bound to be written to can be; what was read-only cannot.
	if err := os.WriteFile(filepath.Join(seen, "0"), []byte("new"), 0); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(host, "file")); string(got) != "new" {
		t.Errorf("the host has %q", got)
	}
	if err := os.WriteFile(filepath.Join(seen, "1/x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a read-only volume: %v", err)
	}
	if err := s.remove("c"); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(s.served()); len(entries) != 0 || err != nil {
		t.Errorf("%v is left, %v", entries, err)
	}
	if got, err := os.ReadFile(filepath.Join(host, "dir/inner")); string(got) != "three" {
		t.Errorf("the host's file was lost: %v", err)
	}
}

// What the host mounts in a volume later is seen (HostToContainer), and nothing
// of the share comes to where the volume is from.
func TestShareFollowsTheHost(t *testing.T) {
	s, host := openShare(t)
	volume := filepath.Join(host, "dir")
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_SHARED} { // as most of a host's file systems are
		source := ""
		if flags == unix.MS_BIND {
			source = volume
		}
		if err := unix.Mount(source, volume, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := detach(volume); err != nil {
			t.Error(err)
		}
	})
	if err := s.add("c", []bind{{name: "0", source: volume, rec: true}}, nil); err != nil {
		t.Fatal(err)
	}
	late := filepath.Join(volume, "late")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("late", late, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(late, "file"), []byte("five"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(s.served(), "c/0/late/file")); string(got) != "five" || err != nil {
		t.Errorf("what was mounted later: %q, %v", got, err)
	}
	if err := s.remove("c"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(late, "file")); string(got) != "five" {
		t.Errorf("the host's own mount was taken away: %v", err)
	}
	if err := detach(late); err != nil {
		t.Error(err)
	}
}

// The guest cannot change where the host mounts (CVE-2020-2026): neither make
// nor remove anything beside what is mounted.
func TestGuestCannotRearrangeTheShare(t *testing.T) {
	s, host := openShare(t)
	if err := s.add("c", []bind{{name: "0", source: filepath.Join(host, "dir")}}, nil); err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() error{
		"a directory for another container": func() error { return os.Mkdir(filepath.Join(s.served(), "d"), 0o755) },
		"a link in the place of a volume":   func() error { return os.Symlink("/etc", filepath.Join(s.served(), "c/1")) },
		"another name for a volume":         func() error { return os.Rename(filepath.Join(s.served(), "c"), filepath.Join(s.served(), "e")) },
	} {
		if err := try(); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EXDEV) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.served(), &st); err != nil || st.Flags&(unix.ST_NODEV|unix.ST_NOSUID) != unix.ST_NODEV|unix.ST_NOSUID {
		t.Errorf("flags %#x, %v: nodev and nosuid are missing", st.Flags, err)
	}
	if err := unix.Statfs(filepath.Join(s.served(), "c/0"), &st); err != nil || st.Flags&(unix.ST_NODEV|unix.ST_NOSUID) != unix.ST_NODEV|unix.ST_NOSUID {
		t.Errorf("flags of a volume %#x, %v: nodev and nosuid are missing", st.Flags, err)
	}
	if err := s.remove("c"); err != nil {
		t.Error(err)
	}
}

// What a guest cannot use or must not see is refused, and nothing of the
// container is left in the share; nor is anything after any other failure.
func TestShareRefuses(t *testing.T) {
	s, host := openShare(t)
	socket := filepath.Join(host, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fifo := filepath.Join(host, "fifo")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Symlink("/proc", filepath.Join(host, "proc"))); err != nil {
		t.Fatal(err)
	}
	for source, says := range map[string]string{
		socket:                         "a socket",
		fifo:                           "neither a directory nor a file",
		"/dev/null":                    "a device of the host",
		"/proc/sys":                    "in a file system of the host's kernel",
		"/sys":                         "in a file system of the host's kernel",
		filepath.Join(host, "proc"):    "in a file system of the host's kernel",
		filepath.Join(host, "missing"): "no such file",
	} {
		err := s.add("c", []bind{{name: "0", source: filepath.Join(host, "dir")}, {name: "1", source: source}}, nil)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), source) {
			t.Errorf("%s: %v", source, err)
		}
		if says != "no such file" && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v is no invalid argument", source, err)
		}
		if entries, err := os.ReadDir(s.mounts()); len(entries) != 0 || err != nil {
			t.Errorf("%s: %v is left, %v", source, entries, err)
		}
	}
}

// What is mounted below a source comes with it, and is judged as the source is;
// without it the source may be shared.
func TestShareRefusesWhatIsBelow(t *testing.T) {
	s, host := openShare(t)
	dir := filepath.Join(host, "with blanks")
	below := filepath.Join(dir, "a", "proc")
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, ""), os.MkdirAll(below, 0o755), os.MkdirAll(dir+"/aside", 0o755)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	share := func(source string, rec bool) error {
		t.Helper()
		binds := []bind{{name: "0", source: source, rec: rec}}
		err, checked := s.add("c", binds, nil), check(binds)
		if (err == nil) != (checked == nil) {
			t.Errorf("checked: %v; shared: %v", checked, err)
		}
		if err := s.remove("c"); err != nil {
			t.Error(err)
		}
		return err
	}
	if err := share(dir, true); err != nil {
		t.Errorf("a tmpfs: %v", err)
	}
	if err := unix.Mount("proc", below, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{dir, filepath.Join(dir, "a"), "/"} {
		err := share(source, true)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "is mounted at ") || source != "/" && !strings.Contains(err.Error(), below) {
			t.Errorf("%s with what is below: %v", source, err)
		}
	}
	for source, rec := range map[string]bool{dir: false, filepath.Join(dir, "aside"): true} {
		if err := share(source, rec); err != nil {
			t.Errorf("%s, rec %t: %v", source, rec, err)
		}
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); errors.Is(err, fs.ErrNotExist) { // the tmpfs of cgroup v1
		if err := share("/sys/fs/cgroup", true); !errdefs.IsInvalidArgument(err) {
			t.Errorf("the cgroups: %v", err)
		}
	}
}

// A mount whose line in the table is longer than any buffer has no volume refused.
func TestShareBesideLongLine(t *testing.T) {
	s, host := openShare(t)
	layers, merged, volume := filepath.Join(host, strings.Repeat("l", 200)), filepath.Join(host, "merged"), filepath.Join(host, "volume")
	if err := errors.Join(os.Mkdir(layers, 0o755), os.Mkdir(merged, 0o755), os.Mkdir(volume, 0o755)); err != nil {
		t.Fatal(err)
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skipf("there is no overlay: %v", err)
	}
	defer func() { _ = unix.Close(fs) }()
	for n := range 400 {
		layer := filepath.Join(layers, strconv.Itoa(n))
		if err := errors.Join(os.Mkdir(layer, 0o755), unix.FsconfigSetString(fs, "lowerdir+", layer)); err != nil {
			t.Skipf("an overlay takes no layer by itself: %v", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(mount) }()
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, merged, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(merged, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !slices.ContainsFunc(strings.Split(string(table), "\n"), func(line string) bool { return len(line) > 64<<10 }) {
		t.Fatalf("no line of the table is long, %v", err)
	}
	binds := []bind{{name: "0", source: volume, rec: true}}
	if err := errors.Join(check(binds), s.add("c", binds, nil), s.remove("c")); err != nil {
		t.Error(err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a`: "/a", `/with\040blanks\134`: `/with blanks\`, `\`: `\`, `\04`: `\04`, `\999`: `\999`} {
		if got := unescape(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
