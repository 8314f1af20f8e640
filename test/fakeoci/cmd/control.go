// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// imageFile is what a checkpoint consists of.
const imageFile = "fake.img"

// verbs are what the runtime can do.
var verbs = map[string]func(*invocation) error{
	"create": create, "restore": restore, "start": start, "exec": execute, "kill": kill, "delete": remove,
	"pause": pause, "resume": resume, "update": update, "checkpoint": checkpoint, "state": show,
	"features": features, "version": func(*invocation) error { fmt.Print(version); return nil },
}

func kill(inv *invocation) error {
	st, err := inv.load()
	if err != nil {
		return err
	}
	sig := unix.SIGTERM
	if len(inv.rest) > 0 {
		n, err := strconv.Atoi(inv.rest[0])
		if err != nil {
			return fmt.Errorf("invalid signal %q", inv.rest[0])
		}
		sig = unix.Signal(n)
	}
	if inv.has("all") || inv.has("a") {
		inv.signalAll(sig)
		return nil
	}
	if st.Status == "stopped" {
		return errors.New("container not running")
	}
	return unix.Kill(st.Pid, sig)
}

func (inv *invocation) has(flag string) bool {
	_, ok := inv.flags[flag]
	return ok
}

func (inv *invocation) signalAll(sig unix.Signal) {
	for _, pid := range inv.members() {
		_ = unix.Kill(pid, sig)
	}
}

func remove(inv *invocation) error {
	st, err := inv.load()
	force := inv.has("force") || inv.has("f")
	if err != nil {
		if force {
			return os.RemoveAll(inv.dir())
		}
		return err
	}
	if st.Status != "stopped" {
		if !force {
			return fmt.Errorf("cannot delete container %s that is not stopped: %s", inv.id, st.Status)
		}
		inv.signalAll(unix.SIGKILL)
		awaitDeath(st.Pid)
	}
	removeCgroups(st.Cgroups)
	return os.RemoveAll(inv.dir())
}

func pause(inv *invocation) error {
	st, err := inv.load()
	if err != nil {
		return err
	}
	if st.Status != "running" && st.Status != "created" {
		return errors.New("container not running")
	}
	inv.signalAll(unix.SIGSTOP)
	return os.WriteFile(inv.paused(), nil, 0o600)
}

func resume(inv *invocation) error {
	st, err := inv.load()
	if err != nil {
		return err
	}
	if st.Status != "paused" {
		return errors.New("container not paused")
	}
	inv.signalAll(unix.SIGCONT)
	return os.Remove(inv.paused())
}

// update takes resources from stdin or a file; they are kept in the call log only.
func update(inv *invocation) error {
	if _, err := inv.load(); err != nil {
		return err
	}
	in := os.Stdin
	if path := inv.flags["resources"]; path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	inv.stdin = string(data)
	if !json.Valid(data) {
		return errors.New("invalid resources")
	}
	return nil
}

func checkpoint(inv *invocation) error {
	st, err := inv.load()
	if err != nil {
		return err
	}
	if st.Status != "running" {
		return errors.New("container not running")
	}
	dir := inv.flags["image-path"]
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, imageFile), []byte(inv.id), 0o600); err != nil {
		return err
	}
	if inv.has("leave-running") {
		return nil
	}
	inv.signalAll(unix.SIGKILL)
	awaitDeath(st.Pid)
	removeCgroups(st.Cgroups)
	return os.RemoveAll(inv.dir()) // as runc: what was dumped is no longer a container
}

func show(inv *invocation) error {
	st, err := inv.load()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(st)
}

func features(*invocation) error {
	fmt.Println(`{"ociVersionMin":"1.0.0","ociVersionMax":"1.0.2","mountOptions":["bind","ro","rro"],"linux":{"namespaces":["mount","user"]}}`)
	return nil
}
