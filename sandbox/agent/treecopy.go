// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// maxVolume bounds the copy of a volume, in bytes: a ConfigMap or a Secret
	// has at most 1 MiB, a projected volume has several.
	maxVolume = 8 << 20
	// maxVolumeEntries bounds its files and directories.
	maxVolumeEntries = 4096
)

// errVolumeSize is the error of a volume that is too large to be copied.
var errVolumeSize = fmt.Errorf("the volume has more than %d bytes or %d files, of which a VM makes no copy: %w",
	maxVolume, maxVolumeEntries, errdefs.ErrFailedPrecondition)

// treeCopy copies files, directories and links with their owners and modes, as
// many as it has left.
type treeCopy struct{ bytes, entries int64 }

func (t *treeCopy) copy(from, to string) error {
	if t.entries--; t.entries < 0 {
		return errVolumeSize
	}
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return t.copyDir(from, to)
	case info.Mode()&os.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case info.Mode().IsRegular():
		return t.copyFile(from, to)
	}
	return fmt.Errorf("%s is neither a file, a directory nor a link: %w", from, errdefs.ErrInvalidArgument)
}

func (t *treeCopy) copyDir(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.copy(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return copyAttributes(from, to)
}

func (t *treeCopy) copyFile(from, to string) (retErr error) {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, out.Close()) }()
	n, err := io.Copy(out, io.LimitReader(in, t.bytes+1))
	if err != nil {
		return err
	}
	if t.bytes -= n; t.bytes < 0 {
		return errVolumeSize
	}
	return copyAttributes(from, to)
}

// copyAttributes gives a file or a directory the owner, the mode and the times
// of another. The owner comes first: a change of it takes bits of the mode.
func copyAttributes(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t) // what os.Lstat has on Linux
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}
