// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// refreshTimeout is for the copy of a few MiB by an emulated guest.
const refreshTimeout = 30 * time.Second

// writtenBy are the plugins of kubelet's whose volumes it writes atomically, as
// they are in the path of one: .../volumes/PLUGIN/NAME.
var writtenBy = []string{
	"kubernetes.io~configmap", "kubernetes.io~secret", "kubernetes.io~projected", "kubernetes.io~downward-api",
}

// dataLink is the link in such a volume that leads to the directory with the
// files, and is replaced to change them (Kubernetes,
// pkg/volume/util/atomic_writer.go).
const dataLink = "..data"

// isWritten is true for what is bound of such a volume as a whole.
func (b bind) isWritten() bool {
	plugin := filepath.Dir(filepath.Clean(b.source))
	return b.readOnly && slices.Contains(writtenBy, filepath.Base(plugin)) && filepath.Base(filepath.Dir(plugin)) == "volumes"
}

// watched is a volume of a container.
type watched struct {
	container, name string
	dir             *os.File
	wd              int    // of the inotify instance; several volumes may have one
	told            string // where ..data led when the guest was told last
	ready           bool   // the guest has the container
}

// refresh has the guest follow, if there is something to follow. The volume may
// have been changed again, or the container deleted, in the meantime: then the
// next look shows it, or nobody cares.
func (w *watched) refresh(r *guest) error {
	data, err := w.data()
	if err != nil || data == w.told || r.paused.Load() { // wake has it looked at again
		return nil
	}
	_, err = call(context.Background(), r, refreshTimeout, "refresh a volume", r.agent.Refresh, &agentapi.RefreshRequest{
		Container: w.container, Volume: &agentapi.Volume{Name: w.name, Data: data},
	})
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err == nil {
		w.told = data
	}
	return err
}

// data is where ..data leads now.
func (w *watched) data() (string, error) {
	name := make([]byte, unix.NAME_MAX+1)
	n := 0
	err := control(w.dir, func(fd int) (err error) {
		n, err = unix.Readlinkat(fd, dataLink, name)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("look where %s of the volume leads: %w", dataLink, err)
	}
	return string(name[:n]), nil
}

// control does something with a file's descriptor, which stays the poller's.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) { err = do(int(fd)) }), err)
}

// procPath is a path to what is open, whatever has its name by now.
func procPath(f *os.File) (path string) {
	_ = control(f, func(fd int) error { path = fmt.Sprintf("/proc/self/fd/%d", fd); return nil })
	return path
}
