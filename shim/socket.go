// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/configs"
)

const (
	defaultSocketDir = "/run/containerd/s"
	// maxSocketPath is what unix(7) leaves for a path with its final zero,
	// less one; containerd's limit is the same.
	maxSocketPath = 106
	// socketDirLink in the bundle leads to the directory of the socket if
	// that is not the default. `delete` is not told it. containerd's own
	// shim uses the same name.
	socketDirLink = "s"
)

// Listener is the listening socket of a shim.
type Listener = *net.UnixListener

// socketPath names the socket of a group. For a group that is a plain name
// the result is the one that containerd's tools compute (`ctr shim`). Others
// are not cleaned, as a path would be: one that holds "/../" must not lead to
// the socket of another namespace.
func socketPath(dir, address, namespace, group string) (string, error) {
	if dir == "" {
		dir = defaultSocketDir
	}
	sum := sha256.Sum256([]byte(filepath.Join(address, namespace) + "/" + group))
	path := filepath.Join(dir, hex.EncodeToString(sum[:]))
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("socket directory %q is not an absolute path: %w", dir, errdefs.ErrInvalidArgument)
	}
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("socket path %q has %d bytes, and a socket's path at most %d: name a shorter socket_dir than %q: %w",
			path, len(path), maxSocketPath, dir, errdefs.ErrInvalidArgument)
	}
	return path, nil
}

// listen creates the socket, for its owner alone from the first moment on.
// It must not be used in a process that creates other files meanwhile: the
// umask is the process's.
func listen(path string) (Listener, error) {
	umask := unix.Umask(0o177)
	defer unix.Umask(umask)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("create the shim's socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it is removed under the lock, with what lies beside it
	return l, nil
}

// listening tells whether a process accepts connections at path. It does not
// wait: a shim that is busy or hangs has a full queue and listens still.
func listening(path string) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, fmt.Errorf("make a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case err == nil, errors.Is(err, unix.EAGAIN):
		return true, nil
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return false, nil
	default:
		return false, fmt.Errorf("connect to the shim at %s: %w", path, err)
	}
}

// served says what serves a socket. It is written before the socket exists.
type served struct {
	Runtime   string `json:"runtime"`   // the runtime type
	Version   string `json:"version"`   // of the program
	Protocol  int    `json:"protocol"`  // highest version spoken with containerd
	Namespace string `json:"namespace"` // containerd's
	ID        string `json:"id"`        // the container that the shim was started for
	// Group is what it serves; empty is a pod.
	Group configs.Group `json:"group,omitempty"`
}

func servedPath(socket string) string { return socket + ".json" }

func (s served) write(socket string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	// Not atomic: it is read by who holds the lock that is held now.
	if err := os.WriteFile(servedPath(socket), data, 0o600); err != nil {
		return fmt.Errorf("note what serves the socket: %w", err)
	}
	return nil
}

// readServed fails with errdefs.ErrFailedPrecondition if the socket belongs to
// another kind of shim, which cannot take our containers.
func readServed(socket, runtimeType string) (served, error) {
	var s served
	data, err := os.ReadFile(servedPath(socket))
	if err == nil {
		err = json.Unmarshal(data, &s)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("it is no %s: %w", runtimeType, errdefs.ErrFailedPrecondition)
	}
	if err == nil && s.Runtime != runtimeType {
		err = fmt.Errorf("it is %q and not %s: all containers of a group need one runtime: %w",
			s.Runtime, runtimeType, errdefs.ErrFailedPrecondition)
	}
	if err == nil && s.Protocol < legacyProtocol {
		err = fmt.Errorf("it speaks version %d of the protocol: %w", s.Protocol, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return s, fmt.Errorf("join the shim that listens at %s: %w", socket, err)
	}
	return s, nil
}

func makeSocketDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make the directory of the shim's socket: %w", err)
	}
	return nil
}

// noteSocketDir leaves a link to the directory of the socket in the bundle, if
// it is not the one that is used by default.
func noteSocketDir(bundle, dir string) error {
	if dir == defaultSocketDir {
		return nil
	}
	link := filepath.Join(bundle, socketDirLink)
	if err := removeFile(link); err != nil {
		return fmt.Errorf("note the directory of the shim's socket: %w", err)
	}
	if err := os.Symlink(dir, link); err != nil {
		return fmt.Errorf("note the directory of the shim's socket: %w", err)
	}
	return nil
}

// findSocket is where the shim of the container in a bundle listens, or did: as
// is noted there, or else where that of its pod would.
func findSocket(id Identity) (string, error) {
	if socket := notedSocket(id.Bundle); socket != "" {
		return socket, nil
	}
	dir, err := os.Readlink(filepath.Join(id.Bundle, socketDirLink))
	if err != nil {
		dir = defaultSocketDir
	}
	group, err := readGroup(id.Bundle, id.ID)
	if err != nil {
		return "", err
	}
	return socketPath(dir, id.Address, id.Namespace, group)
}

// noteAddress leaves the shim's address in a bundle. containerd 1.7 finds a
// running shim again by this file alone, and a newer containerd one that was
// started under 1.7 (restoreBootstrapParams in core/runtime/v2/shim_manager.go).
// It is renamed into place: containerd may be killed, and `start` with it, at
// any time.
func noteAddress(bundle, socket string) error {
	path := filepath.Join(bundle, "address")
	tmp := filepath.Join(bundle, ".address")
	err := os.WriteFile(tmp, []byte("unix://"+socket), 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("leave the shim's address in the bundle: %w", err)
	}
	return nil
}
