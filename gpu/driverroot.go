// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// driverRoot resolves paths as programs below the driver root do: the root of
// a driver container has absolute symlinks that mean itself.
type driverRoot struct {
	dir  *os.File
	path string // without symlinks
}

func openRoot(dir string) (driverRoot, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return driverRoot{}, fmt.Errorf("open the driver root: %w", err)
	}
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		_ = f.Close()
		return driverRoot{}, fmt.Errorf("name the driver root: %w", err)
	}
	return driverRoot{dir: f, path: at}, nil
}

func (r driverRoot) close() { _ = r.dir.Close() }

// resolve follows all symlinks (openat2(2)) and says where on the host that
// ends, and with what kind of file.
func (r driverRoot) resolve(path string) (string, fs.FileMode, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := -1, error(unix.EAGAIN)
	// The kernel gives up on ".." when anything is renamed meanwhile.
	for tries := 0; tries < 64 && (err == unix.EAGAIN || err == unix.EINTR); tries++ {
		fd, err = unix.Openat2(int(r.dir.Fd()), path, &how)
	}
	if err != nil {
		return "", 0, &fs.PathError{Op: "open", Path: r.path + path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return at, info.Mode(), err
}

// inside is a resolved path as it is below the root.
func (r driverRoot) inside(host string) string {
	return "/" + strings.TrimPrefix(strings.TrimPrefix(host, strings.TrimSuffix(r.path, "/")), "/")
}
