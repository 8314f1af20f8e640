// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// image is a root file system beside a directory of the host that must stay as it is.
type image struct {
	*testing.T
	*Root
	dir, host string
	shut      func() // closes Root, once
}

func newImage(t *testing.T) image {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	im := image{T: t, dir: filepath.Join(t.TempDir(), "rootfs"), host: filepath.Join(t.TempDir(), "host")}
	for _, d := range []string{im.host, filepath.Join(im.dir, "etc")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	im.file(filepath.Join(im.host, "secret"), "host")
	im.reopen(0)
	return im
}

func (im *image) reopen(id int) {
	im.Helper()
	root, err := Open(im.dir, id, id)
	if err != nil {
		im.Fatal(err)
	}
	im.Root, im.shut = root, sync.OnceFunc(func() { root.Close() })
	im.Cleanup(im.shut)
}

func (im image) file(p, content string) {
	im.Helper()
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		im.Fatal(err)
	}
}

// at is a path of the image as the host sees it.
func (im image) at(p string) string { return filepath.Join(im.dir, p) }

func (im image) link(target, p string) {
	im.Helper()
	if err := os.Symlink(target, im.at(p)); err != nil {
		im.Fatal(err)
	}
}

// hostUntouched fails if anything in the host's directory changed.
func (im image) hostUntouched() {
	im.Helper()
	entries, err := os.ReadDir(im.host)
	secret, _ := os.ReadFile(filepath.Join(im.host, "secret"))
	if err != nil || len(entries) != 1 || string(secret) != "host" {
		im.Fatalf("the host's directory was changed: %v, %q, %v", entries, secret, err)
	}
}

// writers are all methods that change something, each at a path.
func writers(r *Root) map[string]func(p string) error {
	return map[string]func(p string) error{
		"WriteFile": func(p string) error { return r.WriteFile(p, []byte("new"), 0o644) },
		"Symlink":   func(p string) error { return r.Symlink("target", p) },
		"MkdirAll":  func(p string) error { return r.MkdirAll(p) },
		"Remove":    func(p string) error { return r.Remove(p) },
	}
}

func TestWriteReadListRemove(t *testing.T) {
	im := newImage(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	if err := errors.Join(im.MkdirAll("/etc/a/b"), im.WriteFile("/etc/a/b/f", []byte("one"), 0o640),
		im.WriteFile("/etc/a/b/f", []byte("two"), 0o644), im.Symlink("f", "/etc/a/b/l"), im.Symlink("f", "/etc/a/b/l")); err != nil {
		t.Fatal(err)
	}
	if data, err := im.ReadFile("/etc/a/b/l", 3); err != nil || string(data) != "two" {
		t.Fatalf("%q, %v", data, err)
	}
	if names, err := im.ReadDir("/etc/a/b", 2); err != nil || len(names) != 2 {
		t.Fatalf("%v, %v: a temporary file was left?", names, err)
	}
	file, err1 := im.Stat("/etc/a/b/l")
	link, err2 := im.Lstat("/etc/a/b/l")
	dir, err3 := im.Stat("/etc/a/b")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if file.Mode != unix.S_IFREG|0o644 || link.Mode&unix.S_IFMT != unix.S_IFLNK || dir.Mode != unix.S_IFDIR|0o755 {
		t.Fatalf("modes %o %o %o: the umask counted?", file.Mode, link.Mode, dir.Mode)
	}
	if err := errors.Join(im.Symlink("elsewhere", "/etc/a/b/l"), im.Remove("/etc/a/b/f"), im.Remove("/etc/a/b/f")); err != nil {
		t.Fatal(err)
	}
	if target, _ := os.Readlink(im.at("etc/a/b/l")); target != "elsewhere" {
		t.Fatalf("the link leads to %q", target)
	}
	if _, err := im.Stat("/etc/a/b/l"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a dangling link: %v", err)
	}
}

func TestWriteReplacesWhatACrashLeft(t *testing.T) {
	im := newImage(t)
	im.link(im.host, "etc/.berth-f")
	if err := im.WriteFile("/etc/f", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if names, _ := im.ReadDir("/etc", 10); len(names) != 1 {
		t.Fatalf("found %v", names)
	}
	im.hostUntouched()
}

// The image makes each of these links; the host's directory must not be reached.
func TestCVE_2025_23267_LinksOfTheImageStayInIt(t *testing.T) {
	for _, attack := range []struct{ name, target string }{
		{"absolute link to the host", "HOST"},
		{"climbing link", strings.Repeat("../", 40) + "HOST"},
		{"link to itself", "dir"},
		{"link to the root", "/"},
		{"link through proc", "/proc/self/root/HOST"},
		{"link to proc of the host", "/proc/1/root"},
		{"dangling link", "/nowhere/at/all"},
	} {
		for _, method := range []string{"WriteFile", "Symlink", "MkdirAll", "Remove"} {
			t.Run(attack.name+"/"+method, func(t *testing.T) {
				im := newImage(t)
				im.link(strings.ReplaceAll(attack.target, "HOST", strings.TrimPrefix(im.host, "/")), "etc/dir")
				if attack.target == "HOST" {
					os.Remove(im.at("etc/dir"))
					im.link(im.host, "etc/dir")
				}
				err := writers(im.Root)[method]("/etc/dir/secret")
				if attack.target == "/" && err != nil {
					t.Errorf("a link inside of the image is a legal one: %v", err)
				}
				os.RemoveAll(im.at("etc/last"))
				im.link(filepath.Join(im.host, "secret"), "etc/last")
				if err := writers(im.Root)[method]("/etc/last"); err != nil && method != "MkdirAll" {
					t.Errorf("a link as the last name: %v", err)
				}
				if data, err := im.ReadFile("/etc/dir/secret", 100); err == nil && string(data) == "host" {
					t.Error("the host's file was read")
				}
				im.hostUntouched()
			})
		}
	}
}

func TestUsrLibThatClimbsOutIsTheImagesOwn(t *testing.T) {
	im := newImage(t)
	if err := os.MkdirAll(im.at("usr"), 0o755); err != nil {
		t.Fatal(err)
	}
	im.link("../../../../../etc", "usr/lib")
	if err := im.WriteFile("/usr/lib/f", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(im.at("etc/f")); err != nil {
		t.Fatalf("the file is not in the image's /etc: %v", err)
	}
}

func TestWhatIsNoRegularFileIsNotOpened(t *testing.T) {
	im := newImage(t)
	makes := map[string]func(p string) error{
		"FIFO":          func(p string) error { return unix.Mkfifo(p, 0o644) },
		"device node":   func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) }, // zero: reads never end
		"socket":        func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o644, 0) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o755) },
		"symbolic link": func(p string) error { return os.Symlink(filepath.Base(p), p) },
	}
	if err := errors.Join(im.WriteFile("/etc/library", []byte("the image's own"), 0o644), im.Symlink("x", "/etc/library")); err != nil {
		t.Fatalf("a link in place of a file: %v", err)
	}
	for kind, create := range makes {
		t.Run(kind, func(t *testing.T) {
			p := "/etc/" + strings.ReplaceAll(kind, " ", "-")
			if err := create(im.at(p)); err != nil {
				t.Fatal(err)
			}
			_, err := im.ReadFile(p, 100)
			if kind == "symbolic link" {
				if !errors.Is(err, unix.ELOOP) || !strings.Contains(err.Error(), "loop of symbolic links") {
					t.Fatalf("read: %v", err)
				}
			} else if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), kind) {
				t.Fatalf("read: %v", err)
			}
			if _, err := im.ReadDir(p, 10); (err == nil) != (kind == "directory") {
				t.Fatalf("list: %v", err)
			}
			err = im.Symlink("x", p)
			if kind == "directory" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), kind)) || kind != "directory" && err != nil {
				t.Fatalf("link: %v", err)
			}
			if target, _ := os.Readlink(im.at(p)); (target == "x") != (kind != "directory") {
				t.Fatalf("it leads to %q", target)
			}
			if err := im.WriteFile(p, []byte("x"), 0o644); (err == nil) != (kind != "directory") {
				t.Fatalf("write: %v", err)
			}
			if kind == "directory" {
				if err := im.Remove(p); !errors.Is(err, unix.EISDIR) {
					t.Fatalf("remove: %v", err)
				}
			}
		})
	}
}

func TestSizesAreBounded(t *testing.T) {
	im := newImage(t)
	im.file(im.at("etc/huge"), "")
	if err := os.Truncate(im.at("etc/huge"), 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := im.ReadFile("/etc/huge", 1000); !errdefs.IsFailedPrecondition(err) {
		t.Fatalf("a huge file: %v", err)
	}
	im.file(im.at("etc/f"), "")
	for i := range 10_000 {
		if err := os.Link(im.at("etc/f"), im.at(fmt.Sprintf("etc/f%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := im.ReadDir("/etc", 1000); !errdefs.IsFailedPrecondition(err) {
		t.Fatalf("a directory of 10,000: %v", err)
	}
}

func TestPathsMustBePlain(t *testing.T) {
	im := newImage(t)
	for _, p := range []string{"", "etc/f", "/etc/../f", "/etc//f", "/etc/", "/", "/..", ".."} {
		for name, write := range writers(im.Root) {
			if err := write(p); !errdefs.IsInvalidArgument(err) && (p != "/" || name != "MkdirAll") {
				t.Errorf("%s(%q): %v", name, p, err)
			}
		}
		if _, err := im.Stat(p); !errdefs.IsInvalidArgument(err) && p != "/" && p != "/.." {
			t.Errorf("Stat(%q): %v", p, err)
		}
	}
}

func TestMountsBelowAreNotEntered(t *testing.T) {
	im := newImage(t)
	volume := im.at("etc/volume")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(im.host, volume, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	defer unix.Unmount(volume, unix.MNT_DETACH)
	for name, write := range writers(im.Root) {
		if err := write("/etc/volume/f"); !errors.Is(err, unix.EXDEV) || !strings.Contains(err.Error(), "mounted") {
			t.Errorf("%s into a mount: %v", name, err)
		}
	}
	if _, err := im.ReadFile("/etc/volume/secret", 100); !errors.Is(err, unix.EXDEV) {
		t.Errorf("read from a mount: %v", err)
	}
	im.hostUntouched()
}

func TestReadOnlyIsToldAsEROFS(t *testing.T) {
	im := newImage(t)
	if err := unix.Mount(im.dir, im.dir, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	defer unix.Unmount(im.dir, unix.MNT_DETACH)
	if err := unix.Mount("", im.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	im.reopen(0)
	defer im.shut()
	for name, write := range writers(im.Root) {
		if err := write("/etc/f"); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A thread whose seccomp filter answers openat2 with ENOSYS is a kernel before 5.6.
func TestKernelWithoutOpenat2IsNamed(t *testing.T) {
	im := newImage(t)
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its filter
		filter := []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_OPENAT2},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		}
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
		runtime.KeepAlive(filter)
		if err != nil {
			result <- fmt.Errorf("set a seccomp filter: %w", err)
			return
		}
		result <- im.WriteFile("/etc/f", nil, 0o644)
	}()
	if err := <-result; !errdefs.IsNotImplemented(err) || !errors.Is(err, unix.ENOSYS) || !strings.Contains(err.Error(), "5.6") {
		t.Fatal(err)
	}
}

// While files are written and links made in /etc/d, another thread exchanges /etc/d
// with a link to the host's directory, again and again.
func TestCVE_2026_24260_RaceOfADirectoryAndALink(t *testing.T) {
	for _, target := range []string{"absolute", "climbing"} {
		t.Run(target, func(t *testing.T) {
			im := newImage(t)
			if err := os.Mkdir(im.at("etc/d"), 0o755); err != nil {
				t.Fatal(err)
			}
			to := im.host
			if target == "climbing" {
				to = strings.Repeat("../", 40) + im.host[1:]
			}
			im.link(to, "etc/swap")
			stop, done := make(chan struct{}), make(chan int)
			go func() {
				swaps := 0
				for {
					select {
					case <-stop:
						done <- swaps
						return
					default:
					}
					if unix.Renameat2(unix.AT_FDCWD, im.at("etc/d"), unix.AT_FDCWD, im.at("etc/swap"), unix.RENAME_EXCHANGE) == nil {
						swaps++
					}
				}
			}()
			wrote, refused := 0, 0
			for range 3000 {
				err := im.WriteFile("/etc/d/f", []byte("x"), 0o644)
				im.Symlink("x", "/etc/d/l")
				im.Remove("/etc/d/secret")
				im.MkdirAll("/etc/d/m/n")
				if data, err := im.ReadFile("/etc/d/secret", 10); err == nil {
					t.Errorf("the host's file was read: %q", data)
				}
				if err == nil {
					wrote++
				} else {
					refused++
				}
			}
			close(stop)
			if swaps := <-done; wrote == 0 || refused == 0 || swaps == 0 {
				t.Errorf("no race: %d written, %d refused, %d exchanges", wrote, refused, swaps)
			}
			im.hostUntouched()
		})
	}
}

// While a file is written, another thread makes its temporary name a link to the
// host's file, again and again.
func TestCVE_2026_24260_RaceOfTheTemporaryName(t *testing.T) {
	im := newImage(t)
	temp := im.at("etc/" + tempPrefix + "f")
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		links := 0
		for {
			select {
			case <-stop:
				done <- links
				return
			default:
			}
			if unix.Symlink(filepath.Join(im.host, "secret"), temp) == nil {
				links++
			}
		}
	}()
	refused := 0
	for refused < 10 { // each of these lost the race
		if err := im.WriteFile("/etc/f", []byte("x"), 0o644); err != nil {
			refused++
		}
		if secret, _ := os.ReadFile(filepath.Join(im.host, "secret")); string(secret) != "host" {
			break
		}
	}
	close(stop)
	if links := <-done; links == 0 {
		t.Error("no race: no link was made")
	}
	im.hostUntouched()
}
