// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// PIDNamespace names the pid namespace that this process is in
// (pid_namespaces(7)), for as long as the machine runs: a pid, with its start
// time or without, says nothing in another one.
func PIDNamespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0, fmt.Errorf("tell the pid namespace: %w", &os.PathError{Op: "stat", Path: "/proc/self/ns/pid", Err: err})
	}
	return st.Ino, nil
}
