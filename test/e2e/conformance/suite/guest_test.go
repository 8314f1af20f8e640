// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"os"
	"path/filepath"
	"time"
)

// guestSlowness is how much more time a test has whose containers are in an
// emulated machine. Only a hang meets either limit.
const guestSlowness = 4

func slower(limit time.Duration) time.Duration {
	if *guestFlag == "" {
		return limit
	}
	return limit * guestSlowness
}

// meetGuest is meet for a gate that is a file: see daemon.Gate. What a guest
// writes is a write on the host, but the file may have it before it is looked at;
// asking until it has is what serves both.
func (h *host) meetGuest(name string, flag int) error {
	path := filepath.Join(h.Dir, "share", name)
	if flag == os.O_WRONLY {
		return os.WriteFile(path, []byte{'.'}, 0o666)
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		info, err := os.Stat(path)
		if err != nil || info.Size() > 0 {
			return err
		}
		select {
		case <-again.C:
		case <-h.ctx.Done():
			return h.ctx.Err()
		}
	}
}
