// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// page is what the smallest file has to itself on disk, in bytes: a record fits, and can be written
// again without more room.
const page = 4096

// replace has a file's new content on disk, whole or not at all, and tells of each step. On a full
// disk it writes over what is there, in one step as well, so that what was made before it was full
// can be taken back. tmp is the name that the file has until it is whole.
func replace(dir, tmp, name string, data []byte, did func(string)) error {
	err := renamed(filepath.Join(dir, tmp), filepath.Join(dir, name), data, did)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if over := overwrite(filepath.Join(dir, name), data); over != nil {
			return errors.Join(err, over)
		}
		did("overwrite")
		err = nil
	}
	if err != nil {
		return err
	}
	return flush(dir, did)
}

func renamed(tmp, path string, data []byte, did func(string)) error {
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	did("make")
	_, err = f.Write(data)
	did("write")
	err = errors.Join(err, f.Sync(), f.Close())
	did("sync")
	if err == nil {
		err = os.Rename(tmp, path)
		did("rename")
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// overwrite replaces the content of a file within its first page. What is longer now is followed by
// spaces, which JSON passes over.
func overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		if more := int(info.Size()) - len(data); more > 0 {
			data = append(data, bytes.Repeat([]byte{' '}, more)...)
		}
		if len(data) > page || info.Size() == 0 {
			err = fmt.Errorf("%d bytes do not fit into what %s has", len(data), path)
		}
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// flush has a directory's change on disk.
func flush(path string, did func(string)) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = errors.Join(dir.Sync(), dir.Close())
	did("sync directory")
	return err
}
