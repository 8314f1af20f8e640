// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

const (
	// trimInterval is how long after the last call memory is given back.
	trimInterval = 2 * time.Second
	// heapInterval is the least time between two collections for that end:
	// they cost a millisecond, and a pod may be probed every few seconds.
	heapInterval = 15 * time.Second
)

// trim gives back, once after each burst of calls, what an idle shim has no
// use for: free heap, and the pages of the program that only work had needed.
// It ends when stop is closed.
func trim(activity, stop <-chan struct{}) {
	areas, err := programAreas()
	if err != nil {
		log.L.WithError(err).Debug("the program's pages stay mapped")
	}
	var freed time.Time
	timer := time.NewTimer(trimInterval)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-activity:
			timer.Reset(trimInterval)
		case <-timer.C: // stopped until the next activity
			if left := heapInterval - time.Since(freed); left > 0 && !freed.IsZero() {
				timer.Reset(left)
			} else {
				freed = time.Now()
				debug.FreeOSMemory()
			}
			unmap(areas)
		}
	}
}

// programAreas finds where the program's file is mapped and was never written.
func programAreas() ([]area, error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	areas, err := cleanAreas(f, self)
	if err != nil {
		return nil, fmt.Errorf("read smaps: %w", err)
	}
	return areas, nil
}

// unmap lets go of this process's view of areas of its program. The pages stay
// in the page cache, shared by all shims, and those that are needed again are
// mapped again by a minor fault (madvise(2), MADV_DONTNEED on a private
// mapping of a file). It is an economy: an error changes nothing.
func unmap(areas []area) {
	for _, a := range areas {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, a.from, a.to-a.from, unix.MADV_DONTNEED)
	}
}

type area struct{ from, to uintptr }

// cleanAreas finds the mappings of a file, in the form of proc_pid_smaps(5),
// that cannot be written and never were: a page that was written, as those
// that the loader relocates, is in no file. A shim has a thousand such lines:
// what each would leave on the heap is noticed.
func cleanAreas(smaps io.Reader, file string) ([]area, error) {
	var (
		out    []area
		cur    area
		ok     bool
		suffix = []byte(" " + file)
	)
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		line := lines.Bytes()
		key, rest, isField := bytes.Cut(line, []byte{':'})
		if isField && !bytes.ContainsAny(key, " -") {
			if ok && string(key) == "Anonymous" {
				if string(bytes.TrimSpace(rest)) == "0 kB" {
					out = append(out, cur)
				}
				ok = false
			}
			continue
		}
		if ok = bytes.HasSuffix(line, suffix); ok {
			cur, ok = parseArea(string(line))
		}
	}
	return out, lines.Err()
}

// parseArea reads the first line of a mapping; false for one that can be written.
func parseArea(line string) (a area, ok bool) {
	var perms, offset, device, inode string
	n, _ := fmt.Sscanf(line, "%x-%x %s %s %s %s", &a.from, &a.to, &perms, &offset, &device, &inode)
	return a, n == 6 && !strings.Contains(perms, "w") && strings.Contains(perms, "p")
}
