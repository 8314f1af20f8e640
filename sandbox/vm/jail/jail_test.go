// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/leak"
)

// The test binary is the launcher.
const launcher = "enter-jail"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == launcher {
		fd, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = Enter(fd)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) == 2 {
		if what, ok := map[string]func(){forbiddenCaller: callForbidden, x32Caller: callX32, advisor: advise}[os.Args[1]]; ok {
			with := filter
			if os.Args[1] == advisor {
				with = keepBlocksSmall
			}
			if err := call(with, what); err != nil {
				fmt.Println(err)
			}
			os.Exit(0)
		}
	}
	os.Exit(leak.Main(m))
}

// busybox is a program that needs nothing beside itself, and can look around.
func busybox(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: a jail is made by root")
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed: nothing else runs without libraries")
	}
	return path
}

const prisoner = 1_900_000_001

// run has busybox run a script in a jail.
func run(t *testing.T, script string, change func(*Spec)) (string, error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "child")
	defer ours.Close()
	defer theirs.Close()
	return start(t, script, theirs, change)
}

// start is run with a given end of the socket to the parent.
func start(t *testing.T, script string, socket *os.File, change func(*Spec)) (string, error) {
	t.Helper()
	path := busybox(t)
	spec := &Spec{
		Path: path, Args: []string{"sh", "-c", script}, Shown: []string{path, "/proc"},
		UID: prisoner, GID: prisoner, Parent: 3,
	}
	if change != nil {
		change(spec)
	}
	pipe, err := spec.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	cmd := exec.Command("/proc/self/exe", launcher, "4")
	cmd.ExtraFiles = []*os.File{socket, pipe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: Namespaces}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// prints fails unless the script says that.
func prints(t *testing.T, want, script string, change func(*Spec)) {
	t.Helper()
	if got, err := run(t, script, change); err != nil || strings.TrimSpace(got) != want {
		t.Errorf("%s\nsays %q (%v), want %q", script, got, err, want)
	}
}

func TestJail(t *testing.T) {
	path := busybox(t)
	applets := func(script string) string { return "b=" + path + "; " + script }

	t.Run("it is somebody else", func(t *testing.T) {
		prints(t, fmt.Sprintf("%d %d %d", prisoner, prisoner, prisoner), applets(`echo $($b id -u) $($b id -g) $($b id -G)`), nil)
	})
	t.Run("it sees what is shown", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "shown"), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hidden"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		shown := filepath.Join(dir, "shown")
		prints(t, "shown content", applets(`cd `+dir+` && echo $($b ls) $($b cat shown)`), func(s *Spec) { s.Shown = append(s.Shown, shown, "/nothing-of-that-name") })
		if out, err := run(t, applets(`echo x >`+shown), func(s *Spec) { s.Shown = append(s.Shown, shown) }); err == nil || !strings.Contains(out, "Read-only") {
			t.Errorf("it can write there: %s (%v)", out, err)
		}
	})
	t.Run("what is shared is the host's, later too", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("shared", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
		late := filepath.Join(dir, "late")
		if err := errors.Join(unix.Mount("", dir, "", unix.MS_SHARED, ""), os.Mkdir(late, 0o755), unix.Mkfifo(filepath.Join(dir, "go"), 0o600)); err != nil {
			t.Fatal(err)
		}
		mounted := make(chan error, 1)
		go func() { // the script waits here until there is somebody to write, and then for the end
			w, err := os.OpenFile(filepath.Join(dir, "go"), os.O_WRONLY, 0)
			if err == nil {
				err = errors.Join(unix.Mount("late", late, "tmpfs", 0, ""), os.WriteFile(filepath.Join(late, "file"), []byte("later"), 0o644), w.Close())
			}
			mounted <- err
		}()
		share := func(s *Spec) { s.UID, s.GID, s.Shared = 0, 0, dir }
		prints(t, "later", applets(`cd `+dir+` && read x <go; $b cat late/file; echo mine >mine`), share)
		if err := <-mounted; err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "mine")); string(got) != "mine\n" {
			t.Errorf("what it wrote there: %q, %v", got, err)
		}
		if out, err := run(t, `:`, func(s *Spec) { s.Shared = "/no-such-directory" }); err == nil || !strings.Contains(out, "share /no-such-directory") {
			t.Errorf("without a directory: %s, %v", out, err)
		}
	})
	t.Run("it has the settings that it is to have", func(t *testing.T) {
		want, err := os.ReadFile("/proc/sys/fs/file-max")
		if err != nil {
			t.Fatal(err)
		}
		prints(t, strings.TrimSpace(string(want))+" file-max itself", applets(`cd /proc/sys/fs; echo $($b cat file-max) $($b ls) $([ -d /proc/self/fd ] && [ ! -e /proc/1 ] && echo itself)`), func(s *Spec) {
			s.Shown, s.Proc, s.Settings = s.Shown[:1], true, []string{"fs/file-max"}
		})
	})
	t.Run("its root is read-only", func(t *testing.T) {
		if out, err := run(t, `echo x >/file`, nil); err == nil || !strings.Contains(out, "Read-only") {
			t.Errorf("it can write there: %s (%v)", out, err)
		}
	})
	t.Run("it has its devices", func(t *testing.T) {
		null := func(s *Spec) { s.Devices = []Device{{"/dev/null", 1, 3}} }
		prints(t, "null", applets(`cd /dev; echo x >null; echo $($b ls)`), null)
		if out, err := run(t, applets(`$b mknod /dev/null2 c 1 3`), null); err == nil {
			t.Errorf("it can make more: %s", out)
		}
	})
	t.Run("it has no capability and gets none", func(t *testing.T) {
		prints(t, "0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 1",
			applets(`while read k v; do case $k in Cap*|NoNewPrivs:) echo -n "$v ";; esac; done </proc/self/status`), nil)
	})
	t.Run("it sees only itself", func(t *testing.T) {
		// /proc is the host's, where its own number is that of its namespace only in NSpid.
		prints(t, "1", applets(`echo $$`), nil)
	})
	t.Run("it has the descriptors that were handed to it", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		const forgotten = 200 // as who starts a shim may leave one open
		if err := unix.Dup3(int(r.Fd()), forgotten, 0); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(forgotten) }()
		prints(t, "0 1 2 3", applets(`for f in /proc/self/fd/*; do case ${f##*/} in [0-3]|200) echo -n "${f##*/} ";; esac; done`), nil)
	})
	t.Run("it has limits", func(t *testing.T) {
		prints(t, "17 0", `echo $(ulimit -n) $(ulimit -c)`, func(s *Spec) { s.OpenFiles = 17 })
	})
	t.Run("root keeps what it is to keep", func(t *testing.T) {
		want := fmt.Sprintf("%016x %016x", 1<<unix.CAP_CHOWN|1<<unix.CAP_FOWNER, 1<<unix.CAP_CHOWN|1<<unix.CAP_FOWNER)
		prints(t, want, applets(`while read k v; do case $k in CapEff:|CapBnd:) echo -n "$v ";; esac; done </proc/self/status`), func(s *Spec) {
			s.UID, s.GID, s.Capabilities = 0, 0, []int{unix.CAP_CHOWN, unix.CAP_FOWNER}
		})
	})
	t.Run("an unprivileged user keeps nothing", func(t *testing.T) {
		prints(t, fmt.Sprintf("%016x", 0), applets(`while read k v; do case $k in CapEff:) echo -n "$v ";; esac; done </proc/self/status`), func(s *Spec) {
			s.Capabilities = []int{unix.CAP_CHOWN}
		})
	})
}

// Who starts a program and dies before the program could ask for the death
// signal would leave it behind.
func TestParentThatIsGone(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fds[0])
	alone := os.NewFile(uintptr(fds[1]), "child")
	defer alone.Close()
	out, err := start(t, `echo alive`, alone, nil)
	if err == nil || !strings.Contains(out, "the parent has gone") {
		t.Errorf("it says %q (%v)", out, err)
	}
}

func TestEnterSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		says   string
	}{
		"no program":          {func(s *Spec) { s.Path = "/no/program" }, "start /no/program in its jail"},
		"a program not shown": {func(s *Spec) { s.Shown = nil }, "in its jail: no such file"},
		"no cgroup":           {func(s *Spec) { s.Cgroups = []string{"/no/cgroup"} }, "join a cgroup"},
		"no network":          {func(s *Spec) { s.Network = 98 }, "join the network namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := run(t, "echo", c.change); err == nil || !strings.Contains(out, c.says) {
				t.Errorf("it says %q (%v), want %q", out, err, c.says)
			}
		})
	}
}

func TestSpecTooLarge(t *testing.T) {
	s := &Spec{Args: []string{string(bytes.Repeat([]byte("x"), maxSpec))}}
	if f, err := s.Pipe(); err == nil {
		f.Close()
		t.Error("a pipe took it")
	}
}

func TestReadIsStrict(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, `{"path": "/bin/true", "shell": true}`)
	w.Close()
	fd, err := unix.Dup(int(r.Fd()))
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(fd); err == nil || !strings.Contains(err.Error(), "shell") {
		t.Errorf("got %v", err)
	}
}
