// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// StartTime is when a process started, in clock ticks since the boot: with its
// pid it names a process for good. It is field 22 of the stat file
// (proc_pid_stat(5)). The second field may hold blanks and parentheses.
func StartTime(pid int) (uint64, error) {
	return statField("/proc/"+strconv.Itoa(pid)+"/stat", 22)
}

// statField reads a number after the second field of a stat file.
func statField(path string, number int) (uint64, error) {
	var room [1024]byte // 52 fields: a name of at most 64 bytes, a letter, and numbers
	data, err := readOnce(path, room[:])
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(data[max(0, bytes.LastIndexByte(data, ')')):], []byte(") "))
	field := 3
	for f := range bytes.FieldsSeq(rest) {
		if field == number {
			return strconv.ParseUint(string(f), 10, 64)
		}
		field++
	}
	return 0, fs.ErrInvalid
}

// readOnce reads a file of /proc in one go, as the kernel makes it. Unlike
// os.ReadFile it asks neither for the size nor for the end, nor has the poller
// look at it.
func readOnce(path string, room []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.Read(fd, room)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return room[:n], nil
}
