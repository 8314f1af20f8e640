// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostMount is a line of the host's mount table (proc_pid_mountinfo(5)).
type hostMount struct {
	device     uint64
	root       string // what of the file system is mounted
	point      string
	filesystem string
}

// hostMounts reads the whole table at once: a line has no length that it cannot exceed,
// as with an overlay of hundreds of layers (a bufio.Scanner's, and so that of
// moby/sys/mountinfo, is 64 KiB). Who judges many sources reads it once.
func hostMounts() ([]hostMount, error) {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []hostMount
	for line := range strings.Lines(string(table)) {
		// 31 23 0:28 ROOT POINT OPTIONS FIELDS... - TYPE SOURCE OPTIONS
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		var major, minor uint32
		if ok = ok && len(fields) >= 6; ok {
			_, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor)
			ok = err == nil
		}
		if !ok {
			return nil, fmt.Errorf("the mount table has a line that is none: %.200q", line)
		}
		filesystem, _, _ := strings.Cut(after, " ")
		found = append(found, hostMount{unix.Mkdev(major, minor), unescape(fields[3]), unescape(fields[4]), filesystem})
	}
	return found, nil
}

// unescape reads what the table has for blanks, line ends and backslashes: \040.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, escaped := strings.Cut(s, `\`)
		b.WriteString(before)
		if !escaped {
			return b.String()
		}
		if s = after; len(s) >= 3 {
			if c, err := strconv.ParseUint(s[:3], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[3:]
				continue
			}
		}
		b.WriteByte('\\')
	}
}
