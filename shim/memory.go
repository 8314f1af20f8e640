// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// trimInterval is how long after a call memory is given back.
const trimInterval = 10 * time.Second

// trim gives back, once after each burst of calls, what an idle shim has no
// use for: free heap, and the pages of the program that only work had needed.
// It ends when stop is closed.
func trim(activity, stop <-chan struct{}) {
	timer := time.NewTimer(trimInterval)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
			freeHeap()
			if err := unmapProgram(); err != nil {
				log.L.WithError(err).Debug("the program's pages stay mapped")
			}
		}
		select {
		case <-stop:
			return
		case <-activity:
			timer.Reset(trimInterval)
		}
	}
}

// freeHeap collects garbage and gives free heap back, in a shim that has had to
// collect before. The first collection makes the Go runtime touch some 0.8 MiB
// of tables of its own (measured with Go 1.26), which is more than it can free
// in a shim that has only just started its containers.
func freeHeap() {
	var stats debug.GCStats
	if debug.ReadGCStats(&stats); stats.NumGC > 0 {
		debug.FreeOSMemory()
	}
}

// unmapProgram lets go of this process's view of its program file. The pages
// stay in the page cache, shared by all shims, and those that are needed
// again are mapped again by a minor fault (madvise(2), MADV_DONTNEED on a
// private mapping of a file).
func unmapProgram() error {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	areas, err := cleanAreas(f, self)
	if err != nil {
		return fmt.Errorf("read smaps: %w", err)
	}
	for _, a := range areas {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, a.from, a.to-a.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}

type area struct{ from, to uintptr }

// cleanAreas finds the mappings of a file, in the form of proc_pid_smaps(5),
// that cannot be written and never were: a page that was written, as those
// that the loader relocates, is in no file.
func cleanAreas(smaps io.Reader, file string) ([]area, error) {
	var (
		out []area
		cur area
		ok  bool
	)
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		line := lines.Text()
		key, rest, isField := strings.Cut(line, ":")
		if isField && !strings.ContainsAny(key, " -") {
			if ok && key == "Anonymous" {
				if strings.TrimSpace(rest) == "0 kB" {
					out = append(out, cur)
				}
				ok = false
			}
			continue
		}
		var perms, offset, device, inode string
		cur, ok = area{}, false
		if n, _ := fmt.Sscanf(line, "%x-%x %s %s %s %s", &cur.from, &cur.to, &perms, &offset, &device, &inode); n == 6 {
			ok = strings.HasSuffix(line, " "+file) && !strings.Contains(perms, "w") && strings.Contains(perms, "p")
		}
	}
	return out, lines.Err()
}
