// SPDX-License-Identifier: Apache-2.0

// Command mps is NVIDIA's Multi-Process Service for tests: by the name that it is called by the
// control daemon (nvidia-cuda-mps-control), which is also the program that talks to it, or the
// server (nvidia-cuda-mps-server). It has the sockets and files of the real ones, their commands as
// far as Berth uses them, one server at a time as the user of its clients, and memory that server
// and client share. As a client (nvidia-cuda-mps-control -fake-client) it stands for a CUDA
// program: it says what it got, or that it runs without MPS, and waits to be killed.
//
// Words in /etc/fake-mps.conf have it misbehave: start-crash, start-hang, quit-ignore, quit-hang,
// limit-ignore.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case filepath.Base(os.Args[0]) == "nvidia-cuda-mps-server":
		err = serve()
	case len(args) == 0:
		err = talk(os.Stdin, os.Stdout)
	case args[0] == "-d":
		err = daemonize(args[1:])
	case args[0] == "-f":
		err = control(args[1:], nil)
	case args[0] == "-fake-daemon":
		err = control(args[1:], os.NewFile(3, "ready"))
	case args[0] == "-fake-client":
		err = client(slices.Contains(args, "-once"))
	default:
		err = fmt.Errorf("option %q is not known", args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
		os.Exit(1)
	}
}

func misbehaves(how string) bool {
	text, _ := os.ReadFile("/etc/fake-mps.conf")
	return slices.Contains(strings.Fields(string(text)), how)
}

// hang is for good.
func hang() {
	for {
		unix.Pause()
	}
}

// pipe is a path in the directory that daemon, server and clients have in common.
func pipe(name string) string {
	dir := os.Getenv("CUDA_MPS_PIPE_DIRECTORY")
	if dir == "" {
		dir = "/tmp/nvidia-mps"
	}
	return filepath.Join(dir, name)
}
