// SPDX-License-Identifier: Apache-2.0

package native

import (
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// loaded is a container as the library has read it from its state.
type loaded struct {
	id    string
	state version
	*libcontainer.Container
}

// version tells one content of a file from the next: whoever changes a state
// puts a new file in its place.
type version struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// take returns a container that an earlier call has left, if its state is what it
// was, or loads it: to read and decode a state is a twelfth of the shim's part of
// an exec. It is the caller's alone, since the library has one call at a time of
// a container, until it is left again. What nobody takes is garbage: an idle
// driver keeps nothing.
func (d *Driver) take(id string) (*loaded, error) {
	now, err := stateVersion(d.Root, id)
	if err == nil {
		if c, _ := d.left.Get().(*loaded); c != nil && c.id == id && c.state == now {
			return c, nil
		}
	}
	c, err := d.load(id) // which says what is wrong with the state
	if err != nil {
		return nil, err
	}
	return &loaded{id, now, c}, nil
}

// leave keeps a container for the next call. It is left alone after an error, of
// which the library may not have told the container.
func (d *Driver) leave(c *loaded) { d.left.Put(c) }

func stateVersion(root, id string) (version, error) {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, id, "state.json"), &st); err != nil {
		return version{}, err
	}
	return version{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}
