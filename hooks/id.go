// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// maxIDLen is containerd's own limit (pkg/identifiers): an id is a file name in a bundle and
// part of a cgroup's name.
const maxIDLen = 76

// ValidID tells whether id may name a container or an exec: ASCII letters and digits, and
// after the first of them also '.', '_' and '-'; 76 bytes at most. An id that passes is one
// path component, is neither "." nor "..", and cannot be taken for a flag of the runtime.
//
// This is a little more than containerd's grammar, which has no two separators in a row:
// containerd has checked its ids already, and other clients of the shim are not stopped
// over what is harmless. The error is errdefs.ErrInvalidArgument.
func ValidID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("id is empty: give it 1 to %d letters, digits, '.', '_' or '-': %w",
			maxIDLen, errdefs.ErrInvalidArgument)
	case len(id) > maxIDLen:
		return fmt.Errorf("id %q... has %d bytes: at most %d are allowed: %w",
			id[:maxIDLen], len(id), maxIDLen, errdefs.ErrInvalidArgument)
	case !alphanumeric(id[0]):
		return fmt.Errorf("id %q begins with %q: it must begin with a letter or a digit: %w",
			id, id[0], errdefs.ErrInvalidArgument)
	}
	for i := range len(id) {
		if b := id[i]; !alphanumeric(b) && b != '.' && b != '_' && b != '-' {
			return fmt.Errorf("id %q has %q at byte %d: only letters, digits, '.', '_' and '-' are allowed: %w",
				id, b, i, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func alphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}
