// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxAnnotations bounds the keys and values of all annotations together, in bytes. Kubernetes
// allows 256 KiB for those of a pod; the rest is room for what containerd and others add.
const maxAnnotations = 1 << 20

// Sanity refuses a spec whose id, cgroup path, annotations or rootfs cannot be right, before
// anything is created for it. It edits nothing, so there is nothing to delete.
type Sanity struct{}

var _ Hook = Sanity{}

// Name identifies the hook.
func (Sanity) Name() string { return "sanity" }

// Create checks the spec. A refusal is errdefs.ErrInvalidArgument and says which field was
// refused, what it holds and what is allowed.
func (Sanity) Create(_ context.Context, s *Spec) error {
	if err := ValidID(s.ID()); err != nil {
		return err
	}
	if linux := s.outline.Linux; linux != nil {
		if err := checkCgroupsPath(linux.CgroupsPath); err != nil {
			return err
		}
	}
	if err := checkAnnotations(s); err != nil {
		return err
	}
	return checkRootfs(s)
}

// Delete has nothing to undo.
func (Sanity) Delete(context.Context, string) error { return nil }

// refuse is the one form that a refusal takes. What was found is cut, so that the message
// stays readable and fits a ttrpc status.
func refuse(field, found, allowed string) error {
	const most = 200
	if len(found) > most {
		found = fmt.Sprintf("%q... (%d bytes)", found[:most], len(found))
	} else {
		found = fmt.Sprintf("%q", found)
	}
	return fmt.Errorf("%s is %s: %s: %w", field, found, allowed, errdefs.ErrInvalidArgument)
}

// checkCgroupsPath accepts what runc does under one of its two cgroup managers: a path from
// the root of the hierarchy, or systemd's slice:prefix:name. Empty leaves it to the runtime.
// The root itself is refused: killing the container's cgroup would kill the host.
func checkCgroupsPath(p string) error {
	const field, allowed = "linux.cgroupsPath", `it must be empty, an absolute path below "/" or slice:prefix:name`
	if p == "" {
		return nil
	}
	// The kernel itself refuses a newline in a cgroup's name (cgroup_mkdir).
	if strings.ContainsAny(p, "\x00\n") {
		return refuse(field, p, "it must have neither a NUL nor a newline")
	}
	if len(p) >= unix.PathMax {
		return refuse(field, p, fmt.Sprintf("it must be shorter than %d bytes", unix.PathMax))
	}
	if path.IsAbs(p) {
		for elem := range strings.SplitSeq(p, "/") {
			if elem == ".." {
				return refuse(field, p, `it must not have ".." in it`)
			}
			if len(elem) > unix.NAME_MAX {
				return refuse(field, p, fmt.Sprintf("no part of it may be longer than %d bytes", unix.NAME_MAX))
			}
		}
		if path.Clean(p) == "/" {
			return refuse(field, p, allowed)
		}
		return nil
	}
	slice, rest, _ := strings.Cut(p, ":")
	_, name, ok := strings.Cut(rest, ":")
	if !ok || name == "" || strings.ContainsAny(p, "/") || strings.Contains(name, ":") {
		return refuse(field, p, allowed)
	}
	// "" is the manager's default slice and "-" the root slice.
	if slice != "" && slice != "-" && !strings.HasSuffix(slice, ".slice") {
		return refuse(field, p, `its first part must be empty, "-" or end in ".slice"`)
	}
	return nil
}

func checkAnnotations(s *Spec) error {
	var size int
	for k, v := range s.outline.Annotations {
		size += len(k) + len(v)
		if k == "" {
			return refuse("an annotation's key", k, "it must not be empty")
		}
		if strings.ContainsAny(k, "\x00\n") {
			return refuse("an annotation's key", k, "it must have neither a NUL nor a newline")
		}
	}
	if size > maxAnnotations {
		return fmt.Errorf("annotations have %d bytes in %d keys and their values: at most %d are allowed: %w",
			size, len(s.outline.Annotations), maxAnnotations, errdefs.ErrInvalidArgument)
	}
	return checkUTF8(s.raw)
}

// checkUTF8 looks at the bytes of the annotations, because decoding has replaced what is not
// UTF-8 without a word, and a key that was replaced is another key.
func checkUTF8(raw []byte) error {
	if utf8.Valid(raw) {
		return nil
	}
	var doc struct {
		Annotations json.RawMessage `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("decode annotations: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	for i := 0; i < len(doc.Annotations); {
		r, n := utf8.DecodeRune(doc.Annotations[i:])
		if r == utf8.RuneError && n == 1 {
			from, to := max(0, i-40), min(len(doc.Annotations), i+20)
			return refuse("annotations", string(doc.Annotations[from:to]), "keys and values must be valid UTF-8")
		}
		i += n
	}
	return nil
}

// checkRootfs looks at the place of the root filesystem, which need not be mounted yet. A
// symlink there would have the container's mounts land, and later be unmounted, elsewhere.
func checkRootfs(s *Spec) error {
	const field = "root.path"
	const allowed = "it must be an absolute path or one inside of the bundle"
	root := s.outline.Root
	if root == nil || root.Path == "" {
		return refuse(field, "", allowed)
	}
	if strings.Contains(root.Path, "\x00") {
		return refuse(field, root.Path, "it must not have a NUL in it")
	}
	full := filepath.Clean(root.Path)
	if !filepath.IsAbs(full) {
		if !filepath.IsLocal(full) || full == "." {
			return refuse(field, root.Path, allowed)
		}
		full = filepath.Join(s.Bundle(), full)
	}
	info, err := os.Lstat(full) // full is clean: a trailing slash would follow the symlink
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // mounted or refused by those who know whether it should be there
	case err != nil:
		return fmt.Errorf("look at %s %q: %w", field, root.Path, err)
	case info.Mode()&fs.ModeSymlink != 0:
		return refuse(field, root.Path, "it must not be a symlink; name the directory itself")
	case !info.IsDir():
		return refuse(field, root.Path, "it must be a directory")
	}
	return nil
}
