// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// child is the process of a container before its own program runs. Fd 3 is the pipe to
// whoever launched it.
func child() int {
	unix.CloseOnExec(3)
	parent := os.NewFile(3, "parent")
	var l launch
	if err := json.Unmarshal([]byte(os.Getenv(launchEnv)), &l); err != nil {
		fmt.Fprint(parent, err)
		return 1
	}
	_ = os.Unsetenv(launchEnv)
	if l.Double {
		l.Double = false
		pid, err := spawn(&l, os.Environ(), []*os.File{os.Stdin, os.Stdout, os.Stderr})
		if err != nil {
			fmt.Fprint(parent, err)
			return 1
		}
		fmt.Fprintf(parent, "+%d", pid)
		return 0
	}
	for _, dir := range l.Cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			fmt.Fprint(parent, err)
			return 1
		}
	}
	if l.Terminal {
		if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
			fmt.Fprintf(parent, "controlling terminal: %v", err)
			return 1
		}
	}
	program, err := lookUp(l.Args)
	if err != nil {
		fmt.Fprint(parent, err)
		return 1
	}
	if l.Cwd != "" {
		_ = os.Chdir(l.Cwd)
	}
	fmt.Fprintf(parent, "+%d", os.Getpid())
	parent.Close()
	if l.Exit != nil {
		return *l.Exit
	}
	if l.FIFO != "" {
		fifo, err := os.OpenFile(l.FIFO, os.O_WRONLY, 0)
		if err != nil {
			return 1
		}
		_, _ = fifo.Write([]byte{0})
		fifo.Close()
	}
	if program == "" {
		return script(l.Args[1:])
	}
	err = unix.Exec(program, l.Args, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	return 127
}

// lookUp finds the program to run, "" for a script. The message is runc's.
func lookUp(args []string) (string, error) {
	if args[0] == "fake" {
		return "", nil
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		if strings.Contains(args[0], "/") {
			return "", fmt.Errorf("exec: %s: stat %s: no such file or directory", strconv.Quote(args[0]), args[0])
		}
		return "", fmt.Errorf("exec: %s: executable file not found in $PATH", strconv.Quote(args[0]))
	}
	return path, nil
}
