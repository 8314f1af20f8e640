// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

// A keeper is started by a shim and outlives it, the pod and the pod's cgroup. It
// takes two steps, each of them the shim's program: the first, Detach, makes sure
// that there is no other, leaves the shim's mount namespace, which would
// otherwise live as long as the keeper with all that the shim has mounted, and
// ends; what it starts is the keeper.

// Start has a program begin to be a keeper, by Detach, with the request as the
// last argument, in the mount namespace of host; nil is this one. Once the process that it returns has ended there is one, if there
// can be.
func Start(sup *process.Supervisor, program []string, host *os.File, q Request) (*process.Process, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	p, err := sup.Start(&process.Command{
		Path: program[0], Args: append(append([]string(nil), program[1:]...), string(data)), OwnGroup: true,
		// It waits more than it computes. Nothing of the shim's stays open: its
		// standard error is a pipe of containerd's, which waits for the end of it.
		Env: []string{"GOMAXPROCS=2"}, Files: []*os.File{nil, nil, nil, host},
	})
	if err != nil {
		return nil, fmt.Errorf("start a keeper of templates: %w", err)
	}
	return p, nil
}

// The descriptors of a keeper's place.
const lockFD, listenerFD = 3, 4

// Detach starts a program, which is to call Keep, in the host's mount namespace and
// in a session of its own. If there is a keeper in dir already it does nothing.
func Detach(program []string, dir string) error {
	if err := enterHost(); err != nil {
		return fmt.Errorf("enter the host's mount namespace: %w", err)
	}
	if err := openLog(dir); err != nil {
		return err
	}
	p, err := occupy(dir)
	if errors.Is(err, errKept) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	if err := os.Truncate(logIn(dir), 0); err != nil { // the one before has ended
		return fmt.Errorf("begin the keeper's log: %w", err)
	}
	files, err := p.files()
	if err != nil {
		return err
	}
	_, err = syscall.ForkExec(program[0], program, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []uintptr{0, 1, 2, files[0].Fd(), files[1].Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	return nil
}

// openLog makes the standard error of this process, and of the keeper, a file: what
// goes wrong has nobody else who reads it.
func openLog(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("open the keeper's log: %w", err)
	}
	f, err := os.OpenFile(logIn(dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the keeper's log: %w", err)
	}
	defer func() { _ = f.Close() }()
	return unix.Dup3(int(f.Fd()), unix.Stderr, 0)
}

// hostFD is where the process of Start has the host's mount namespace, if it has.
const hostFD = 3

// enterHost moves the calling thread, whose children then are there too, into the
// host's mount namespace. It has to share nothing for that, and is good for nothing
// else: it ends with the process.
func enterHost() error {
	var st unix.Statfs_t
	if unix.Fstatfs(hostFD, &st) != nil || st.Type != unix.NSFS_MAGIC {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(hostFD, unix.CLONE_NEWNS)
}

// Keep is a keeper's whole life. The request is Start's.
func Keep(ctx context.Context, dir, request string) error {
	var q Request
	if err := json.Unmarshal([]byte(request), &q); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	p, err := inherit(dir, lockFD, listenerFD)
	if err != nil {
		return err
	}
	path := q.Cgroup
	if path == "" {
		path = defaultCgroup
	}
	g, err := joinCgroup(path)
	if err != nil {
		p.close()
		return err
	}
	// What it keeps is worth less than any container.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return fmt.Errorf("offer the keeper to the OOM killer: %w", err)
	}
	sup := process.NewSupervisor()
	defer sup.Close()
	k := &keeper{idle: time.Duration(q.Idle) * time.Second, cgroup: path, sup: sup, log: os.Stderr, leave: g.leave}
	k.run(ctx, p, &q)
	return k.left
}
