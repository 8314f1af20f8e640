// SPDX-License-Identifier: Apache-2.0

package native

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hostile makes a container whose init is the hostile program, with every
// capability: it may open the program of whoever enters.
func hostile(t *testing.T) (*box, output) {
	b := newBox(t, "")
	b.spec.Process.Args = []string{"/bin/attack"}
	program, err := os.ReadFile(attack)
	b.must(err)
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/attack"), program, 0o755))
	all := []string{"CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_KILL"}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: all}
	return b, newOutput(t)
}

// CVE-2019-5736: a container overwrites the program that enters it, which is
// this one. It gets to see the program, and does overwrite one that is its own
// (which shows that the attack works); this program's file it cannot.
func TestProgramIsSealed(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	before := hash(t, self)
	b, out := hostile(t)
	p := b.run(out)
	b.until("it is ready", func() bool { return strings.Contains(out.text(), "ready\n") })
	b.until("it has opened the program that enters", func() bool {
		b.enter(shell("true"))
		return strings.Contains(out.text(), "opened ")
	})
	// A script whose interpreter is the program that executes it, and the bare
	// program: both leave it running in the container, as far as it can there.
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/self"), []byte("#!/proc/self/exe\n"), 0o755))
	for _, args := range [][]string{{"/bin/self"}, {"/proc/self/exe"}, {"/proc/self/exe", "init"}} {
		for range 5 {
			b.enter(&specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}})
		}
	}
	if strings.Contains(out.text(), "wrote ") {
		t.Errorf("the container has overwritten the program that entered it: %s", out.text())
	}
	if hash(t, self) != before {
		t.Fatal("this program's file has changed")
	}

	const victim = "/bin/victim/sleep"
	b.must(os.Mkdir(filepath.Join(b.rootfs, "bin/victim"), 0o755))
	b.must(os.WriteFile(filepath.Join(b.rootfs, victim), must(os.ReadFile("/bin/busybox"))(t), 0o755))
	e, err := b.exec(&specs.Process{Args: []string{victim, "1000"}, Cwd: "/", Env: []string{"PATH=/bin"}}, nil)
	b.must(err)
	b.until("it has opened its own", func() bool { return strings.Contains(out.text(), "opened "+victim+"\n") })
	b.kill(e)
	b.until("it has overwritten what is its own", func() bool { return strings.Contains(out.text(), "wrote "+victim+"\n") })
	t.Logf("the container: %s", strings.ReplaceAll(strings.TrimSpace(out.text()), "\n", ", "))
	b.kill(p)
}

// host runs a script of the shell on the host.
func (b *box) host(dir, script string) (string, error) {
	hold := b.sup.Spare() // os/exec waits by itself
	defer hold.Release()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// enter has a process enter the container, whatever becomes of it.
func (b *box) enter(p *specs.Process) {
	b.Helper()
	if e, err := b.exec(p, nil); err == nil {
		b.status(e)
	}
}

// CVE-2024-21626: a working directory named through a descriptor of the program
// that enters leads to the host.
func TestWorkingDirectoryByDescriptor(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open("/") // this program has the host's root open, and more
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	outside := "test -e ../../../../../../../../" + marker + " && exit 66; exit 0"
	b := newBox(t, "sleep 1000")
	if out, err := b.host("/", outside); err == nil {
		t.Fatalf("the script does not tell that it is outside: %s", out)
	}
	p := b.run(nil)
	for fd := range 32 {
		for _, dir := range []string{"self", "thread-self"} {
			spec := shell(outside)
			spec.Cwd = fmt.Sprintf("/proc/%s/fd/%d", dir, fd)
			e, err := b.exec(spec, nil)
			if err == nil && b.status(e) != 0 {
				t.Errorf("exec with the working directory %s is outside of the container", spec.Cwd)
			}
		}
	}
	b.kill(p)
	b.must(b.driver.Delete(t.Context(), b.id, false))
	for fd := range 16 {
		b.spec.Process = shell(outside)
		b.spec.Process.Cwd = fmt.Sprintf("/proc/self/fd/%d", fd)
		p, err := b.tryCreate(nil)
		if err != nil {
			continue
		}
		b.must(b.driver.Start(t.Context(), b.id))
		if b.status(p) != 0 {
			t.Errorf("an init with the working directory %s is outside of the container", b.spec.Process.Cwd)
		}
		b.must(b.driver.Delete(t.Context(), b.id, false))
	}
}

func hash(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
