// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// state is what is kept of a container, in state.json.
type state struct {
	Version string `json:"ociVersion"`
	ID      string `json:"id"`
	Status  string `json:"status"` // filled in when asked
	Pid     int    `json:"pid"`
	Bundle  string `json:"bundle"`
	Birth   string `json:"birth"` // start time of the init, from proc_pid_stat(5)
	Cgroups []string
}

func (inv *invocation) dir() string      { return filepath.Join(inv.root, inv.id) }
func (inv *invocation) execFIFO() string { return filepath.Join(inv.dir(), "exec.fifo") }
func (inv *invocation) paused() string   { return filepath.Join(inv.dir(), "paused") }

func (inv *invocation) save(st *state) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(inv.dir(), "state.json"), data, 0o600)
}

func (inv *invocation) load() (*state, error) {
	data, err := os.ReadFile(filepath.Join(inv.dir(), "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("container does not exist")
	}
	if err != nil {
		return nil, err
	}
	var st state
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, err
	}
	phase, birth := stat(st.Pid)
	switch {
	case phase == "" || phase == "Z" || phase == "X" || birth != st.Birth:
		st.Status = "stopped"
	case exists(inv.paused()):
		st.Status = "paused"
	case exists(inv.execFIFO()):
		st.Status = "created"
	default:
		st.Status = "running"
	}
	return &st, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// stat returns the state letter and the start time of a process, "" if there is none.
func stat(pid int) (phase, birth string) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", ""
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return "", ""
	}
	return fields[0], fields[19]
}

// members are the processes of the container: those that bear its mark in the environment.
func (inv *invocation) members() []int {
	mark := []byte(markEnv + "=" + inv.dir() + "\x00")
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && bytes.Contains(append([]byte{0}, env...), append([]byte{0}, mark...)) {
			var pid int
			if _, err := fmt.Sscan(e.Name(), &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
