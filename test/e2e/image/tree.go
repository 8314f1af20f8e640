// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteTree writes an image layout, as Write does, with one image: the files,
// directories and links of a host's directory, which all belong to root.
func WriteTree(w io.Writer, name, dir string, config ocispec.ImageConfig) error {
	layer, err := treeLayer(dir)
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	l := layout{blobs: map[digest.Digest][]byte{}}
	if err := l.add(name, config, layer); err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	return l.write(w)
}

func treeLayer(dir string) ([]byte, error) {
	var out bytes.Buffer
	root := newArchive(&out)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, mode := path[len(dir)+1:], int64(info.Mode().Perm())
		switch info.Mode().Type() {
		case fs.ModeDir:
			root.dir(name+"/", mode)
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			root.symlink(name, target)
		case 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			root.file(name, mode, content)
		default:
			return fmt.Errorf("%s is a %v: only files, directories and links go into an image", name, info.Mode().Type())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := root.close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
