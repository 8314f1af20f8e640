// SPDX-License-Identifier: Apache-2.0

package template

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// place is where the one keeper of a directory listens. The lock is held by
// whoever has the descriptor, from before there is a socket until after its end.
type place struct {
	lock     *os.File
	listener *net.UnixListener
}

// Dir is where the keeper of a configuration's run_dir listens; no namespace of
// containerd's is called that.
func Dir(runDir string) string { return filepath.Join(runDir, ".templates") }

func socketIn(dir string) string { return filepath.Join(dir, "socket") }
func lockIn(dir string) string   { return filepath.Join(dir, "lock") }
func logIn(dir string) string    { return filepath.Join(dir, "log") }

// errKept is that there is a keeper already.
var errKept = errors.New("templates are kept there already")

// occupy makes the place in a directory of root's alone.
func occupy(dir string) (_ *place, retErr error) {
	defer func() {
		if retErr != nil {
			retErr = fmt.Errorf("listen in %s: %w", dir, retErr)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(lockIn(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	p := &place{lock: lock}
	defer func() {
		if retErr != nil {
			p.close()
		}
	}()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errKept
	} else if err != nil {
		return nil, err
	}
	if err := os.Remove(socketIn(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed
		return nil, err
	}
	p.listener, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketIn(dir), Net: "unixpacket"})
	return p, err
}

// files are descriptors to be inherited: what inherit takes. The place is then
// the other process's.
func (p *place) files() (_ [2]*os.File, err error) {
	p.listener.SetUnlinkOnClose(false)
	l, err := p.listener.File()
	return [2]*os.File{p.lock, l}, err
}

// inherit takes over a place by its descriptors.
func inherit(dir string, lock, listener uintptr) (*place, error) {
	unix.CloseOnExec(int(lock))
	p := &place{lock: os.NewFile(lock, lockIn(dir))}
	f := os.NewFile(listener, socketIn(dir))
	defer func() { _ = f.Close() }()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over the keeper's socket: %w", err)
	}
	p.listener = l.(*net.UnixListener)
	p.listener.SetUnlinkOnClose(true)
	return p, nil
}

// close gives the place up.
func (p *place) close() {
	if p.listener != nil {
		_ = p.listener.Close()
	}
	_ = p.lock.Close()
}
