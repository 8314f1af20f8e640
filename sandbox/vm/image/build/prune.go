// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox/vm/image"
)

// pruneAge is how old a file must be to be removed: a shim has read the
// description a moment before QEMU opens what that names, and a build has
// written the files a moment before the description.
const pruneAge = 10 * time.Minute

// Prune removes the kernels and initramfs of dir that its description does not
// name, and what builds that were cut off have left. Machines that have booted
// from them live on. It returns the names of what it removed.
func Prune(dir string, now time.Time) (removed []string, err error) {
	img, err := image.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("prune guest images: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("prune guest images: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !isOurs(e.Name()) || path == img.Kernel || path == img.Initramfs {
			continue
		}
		switch old, err := aged(path, now); {
		case err != nil:
			errs = append(errs, err)
			continue
		case !old:
			continue
		}
		if err := os.Remove(path); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, e.Name())
	}
	return removed, errors.Join(errs...)
}

// isOurs is true for the names that Build gives, in the end and before it.
func isOurs(name string) bool {
	for _, prefix := range []string{"vmlinux-", "initramfs-", ".vmlinux-", ".initramfs-", ".description-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// aged is true for a regular file that has been what it is for a while. A build
// that comes to the same content renames its file over the old one, which makes
// it a new one.
func aged(path string, now time.Time) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	changed := time.Unix(st.Ctim.Unix())
	return st.Mode&unix.S_IFMT == unix.S_IFREG && now.Sub(changed) >= pruneAge, nil
}
