// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/gpu/loader"
)

// readLibrary also gets what is no library, and may be a FIFO or a device, which
// are not opened: what a client mounts.
func readLibrary(host string) (loader.Library, error) {
	path, err := os.OpenFile(host, unix.O_PATH, 0)
	if err != nil {
		return loader.Library{}, err
	}
	defer func() { _ = path.Close() }()
	if info, err := path.Stat(); err != nil || !info.Mode().IsRegular() {
		return loader.Library{}, errors.Join(err, fmt.Errorf("%s is no regular file: %w", host, errdefs.ErrInvalidArgument))
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(path.Fd())))
	if err != nil {
		return loader.Library{}, err
	}
	defer func() { _ = f.Close() }()
	return loader.ReadLibrary(f)
}

// runsHere tells the libraries of this machine's programs from those that are
// on it for an emulator.
func runsHere(a loader.ABI) bool {
	if runtime.GOARCH == "arm64" {
		return a == loader.AArch64 || a == loader.ARMHF
	}
	return a == loader.X8664 || a == loader.I386
}
