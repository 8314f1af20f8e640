// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"berth/gpu/nvml"
)

// Alive says that the owner's process, known by pid and start time, lives. What cannot be read is
// no proof of death.
func Alive(o nvml.Owner) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", o.PID))
	if os.IsNotExist(err) {
		return false
	}
	// proc_pid_stat(5): field 3 follows the name's last bracket; 22 is the start time.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if err != nil || len(fields) < 20 {
		return !errors.Is(err, unix.ESRCH)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return err == nil && start == o.StartTime && fields[0][0] != 'Z' && fields[0][0] != 'X'
}
