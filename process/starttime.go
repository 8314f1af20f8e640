// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// StartTime is when a process started, in clock ticks since the boot: with its
// pid it names a process for good. It is field 22 of the stat file
// (proc_pid_stat(5)). The second field may hold blanks and parentheses.
func StartTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(data[max(0, strings.LastIndexByte(string(data), ')')):]), ") ")
	if !ok {
		return 0, fs.ErrInvalid
	}
	fields := strings.Fields(rest) // fields[0] is field 3
	if len(fields) < 20 {
		return 0, fs.ErrInvalid
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
