// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func create(inv *invocation) error {
	return inv.makeContainer(inv.execFIFO())
}

// restore makes a container whose init runs at once. It wants an image that checkpoint made.
func restore(inv *invocation) error {
	if !exists(filepath.Join(inv.flags["image-path"], imageFile)) {
		return fmt.Errorf("no checkpoint image in %q", inv.flags["image-path"])
	}
	return inv.makeContainer("")
}

func (inv *invocation) makeContainer(fifo string) error {
	spec, err := inv.spec()
	if err != nil {
		return err
	}
	if spec.Process == nil || len(spec.Process.Args) == 0 {
		return errors.New("args must not be empty")
	}
	if err := os.MkdirAll(inv.root, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(inv.dir(), 0o700); errors.Is(err, os.ErrExist) {
		return errors.New("runc create failed: container with given ID already exists")
	} else if err != nil {
		return err
	}
	if fifo != "" {
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			return err
		}
	}
	st := &state{Version: specs.Version, ID: inv.id, Bundle: inv.bundle}
	if spec.Linux != nil && filepath.IsAbs(spec.Linux.CgroupsPath) {
		if st.Cgroups, err = makeCgroups(spec.Linux.CgroupsPath); err != nil {
			return err
		}
	}
	pid, err := inv.launch(spec.Process, st, fifo)
	if err != nil {
		removeCgroups(st.Cgroups)
		_ = os.RemoveAll(inv.dir())
		return fmt.Errorf("runc create failed: unable to start container process: %w", err)
	}
	st.Pid = pid
	_, st.Birth = stat(pid)
	if err := inv.save(st); err != nil {
		return err
	}
	return inv.finish(pid)
}

func execute(inv *invocation) error {
	st, err := inv.load()
	if err != nil {
		return fmt.Errorf("exec failed: %w", err)
	}
	switch st.Status {
	case "stopped":
		return errors.New("cannot exec in a stopped container")
	case "paused":
		return errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	}
	data, err := os.ReadFile(inv.flags["process"])
	if err != nil {
		return err
	}
	var p specs.Process
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	if len(p.Args) == 0 {
		return errors.New("args must not be empty")
	}
	pid, err := inv.launch(&p, st, "")
	if err != nil {
		return fmt.Errorf("exec failed: unable to start container process: %w", err)
	}
	return inv.finish(pid)
}

// finish writes the pid file, last of all.
func (inv *invocation) finish(pid int) error {
	inv.made = pid
	if inv.do.UntilDead || inv.do.InitExit != nil {
		awaitDeath(pid)
	}
	text := strconv.Itoa(pid)
	if inv.do.PidFile != "" {
		text = inv.do.PidFile
	}
	path := inv.flags["pid-file"]
	if path == "" || text == "none" {
		return nil
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// awaitDeath returns once a process has exited; it is not reaped here.
func awaitDeath(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return
		}
	}
}

// start lets the init go: it opens the FIFO that the init is writing to.
func start(inv *invocation) error {
	st, err := inv.load()
	if err != nil {
		return err
	}
	switch st.Status {
	case "stopped":
		return errors.New("cannot start a container that has stopped")
	case "running", "paused":
		return errors.New("cannot start an already running container")
	}
	init, err := unix.PidfdOpen(st.Pid, 0)
	if err != nil {
		return errors.New("container process is already dead")
	}
	fifo, err := unix.Open(inv.execFIFO(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fds := []unix.PollFd{{Fd: int32(fifo), Events: unix.POLLIN}, {Fd: int32(init), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		}
		if fds[0].Revents&unix.POLLIN == 0 && fds[1].Revents != 0 {
			return errors.New("container process is already dead")
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			return os.Remove(inv.execFIFO())
		}
	}
}
