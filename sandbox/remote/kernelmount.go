// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// kernelMount is where a file system of the host's kernel is mounted.
type kernelMount struct{ filesystem, point string }

// kernelMounts reads all of them. It reads the whole table at once: a line has no length
// that it cannot exceed, as with an overlay of hundreds of layers. Who judges many
// sources reads it once.
func kernelMounts() ([]kernelMount, error) {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []kernelMount
	for line := range strings.Lines(string(table)) {
		// 31 23 0:28 ROOT POINT OPTIONS FIELDS... - TYPE SOURCE OPTIONS (proc_pid_mountinfo(5))
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 {
			return nil, fmt.Errorf("the mount table has a line that is none: %.200q", line)
		}
		filesystem, _, _ := strings.Cut(after, " ")
		if _, kernels := kernelFilesystems[filesystem]; kernels {
			found = append(found, kernelMount{filesystem, unescape(fields[4])})
		}
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
