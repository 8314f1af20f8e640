// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"io/fs"

	"berth/gpu/loader"
)

// Kind says where a file goes.
type Kind string

// The kinds of files.
const (
	Library   Kind = "library"   // found by the loader, so in any directory that it searches
	Library32 Kind = "library32" // likewise, by the loader of 32-bit programs
	Module    Kind = "module"    // opened by its path: VDPAU's, GBM's, X's
	Binary    Kind = "binary"
	Firmware  Kind = "firmware"
	Config    Kind = "config"
)

// File is one file of the driver.
type File struct {
	// Host is the file on the host, with no symlink on the way.
	Host string
	// Path is the file in the container. A relative one, which libraries and
	// most modules have, is below the directory that libraries go to.
	Path       string
	Kind       Kind
	Capability Capability // any of which needs it
	Soname     string     // of libraries, never empty
	ABI        loader.ABI // of libraries
}

// Link is a symlink that programs expect, with Path as in File. Links to a
// library's soname are among them.
type Link struct {
	Path, Target string
	Kind         Kind
	Capability   Capability
}

// Files are the driver's on this host.
type Files struct {
	Version string
	Files   []File
	Links   []Link
	// NVML is what StoreNVML has kept, if anything.
	NVML json.RawMessage

	cache fileCache
}

// For tells whether a container of these capabilities gets the file.
func (f File) For(c Capability) bool { return wanted(f.Kind, f.Capability, c) }

// For tells whether a container of these capabilities gets the link.
func (l Link) For(c Capability) bool { return wanted(l.Kind, l.Capability, c) }

// wanted has Compat32 double the libraries of the others: nothing has it as a
// use of its own.
func wanted(k Kind, has, c Capability) bool {
	return has&c != 0 && (k != Library32 || c&Compat32 != 0)
}

// Socket is what a daemon of the driver listens on.
type Socket struct {
	Name string // "persistenced", "fabricmanager" or "mps"
	Host string // without symlinks
	Path string // in the container; for "mps" it is a directory
}

// Sockets lists those that are there now.
func Sockets(r Roots) []Socket {
	root, err := openRoot(r.Driver)
	if err != nil {
		return nil
	}
	defer root.close()
	var found []Socket
	for _, s := range []Socket{
		{Name: "persistenced", Path: "/run/nvidia-persistenced/socket"},
		{Name: "fabricmanager", Path: "/run/nvidia-fabricmanager/socket"},
		{Name: "mps", Path: "/tmp/nvidia-mps"},
	} {
		kind, paths := fs.ModeSocket, []string{s.Path, "/var" + s.Path} // where /var/run is no link
		if s.Name == "mps" {
			kind, paths = fs.ModeDir, paths[:1]
		}
		for _, from := range paths {
			if at, mode, err := root.resolve(from); err == nil && mode.Type() == kind {
				s.Host = at
				found = append(found, s)
				break
			}
		}
	}
	return found
}
