// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	childArg  = "__child"
	markEnv   = "FAKEOCI_CONTAINER" // marks the processes of a container; the value is its state directory
	launchEnv = "FAKEOCI_LAUNCH"
)

// launch is what the runtime tells the process that it makes.
type launch struct {
	Args     []string
	Cwd      string
	FIFO     string // to be written to before anything runs; "" to run at once
	Cgroups  []string
	Exit     *int // end with this code instead of running
	Terminal bool // fd 0 is to be the controlling terminal
	Double   bool // fork once more and let the child be the one
}

// launch makes a process and returns its pid once it is ready: it waits at the FIFO, or is
// about to run its program. The process outlives the runtime and is not waited for.
func (inv *invocation) launch(p *specs.Process, st *state, fifo string) (int, error) {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if p.Terminal {
		slave, err := console(inv.flags["console-socket"])
		if err != nil {
			return 0, err
		}
		files = []*os.File{slave, slave, slave}
	}
	return spawn(&launch{
		Args: p.Args, Cwd: p.Cwd, FIFO: fifo, Cgroups: st.Cgroups, Exit: inv.do.InitExit,
		Terminal: p.Terminal, Double: inv.do.DoubleFork,
	}, append(p.Env, markEnv+"="+inv.dir()), files)
}

// spawn starts this program as a child. What the child says over the pipe is "+PID" when it
// is ready, or the reason for which it is not.
func spawn(l *launch, env []string, files []*os.File) (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	data, err := json.Marshal(l)
	if err != nil {
		return 0, err
	}
	proc, err := os.StartProcess("/proc/self/exe", []string{"fakeoci", childArg}, &os.ProcAttr{
		Env:   append(env, launchEnv+"="+string(data)),
		Files: append(files[:3:3], w),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return 0, err
	}
	said, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	if l.Double {
		_, _ = proc.Wait() // the one in between
	}
	if pid, err := strconv.Atoi(strings.TrimPrefix(string(said), "+")); err == nil && said[0] == '+' {
		return pid, nil
	}
	return 0, errors.New(string(said))
}
