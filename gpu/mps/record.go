// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/process"
	"berth/process/cgroup"
)

// Owner is whose the daemon is: a pod, or a container that is in none.
type Owner struct {
	Namespace string `json:"namespace"` // containerd's
	ID        string `json:"id"`        // the sandbox's, or the container's
	Pod       bool   `json:"pod,omitempty"`
}

func (o Owner) String() string {
	if o.Pod {
		return "pod " + o.Namespace + "/" + o.ID
	}
	return o.Namespace + "/" + o.ID
}

// key names the owner's directory: nothing of an id's becomes a path.
func (o Owner) key() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %t", o.Namespace, o.ID, o.Pod))
	return hex.EncodeToString(sum[:16])
}

// State is how far a daemon is.
type State string

// The states. What is Starting or Stopping without somebody who holds the lock
// was left by a process that died.
const (
	Starting State = "starting"
	Ready    State = "ready"
	Stopping State = "stopping"
)

// Record is one daemon, as its file has it.
type Record struct {
	Owner  Owner     `json:"owner"`
	State  State     `json:"state"`
	BootID string    `json:"boot_id"`
	Began  time.Time `json:"began"`
	Ask    Ask       `json:"ask"`
	// Devices are the UUIDs of its devices, in order.
	Devices []string `json:"devices"`
	// UID is the host's user of the clients, unless it is Multiuser.
	UID       int  `json:"uid"`
	Multiuser bool `json:"multiuser,omitempty"`
	// PIDNamespace is where the pids that follow are some; in another they say nothing.
	PIDNamespace uint64 `json:"pid_namespace"`
	// Shim is the process that started it.
	Shim    Process  `json:"shim"`
	Members []Member `json:"members,omitempty"`
	// Cgroup has all of its processes.
	Cgroup cgroup.Location `json:"cgroup"`
	// Daemon is the control daemon, from Ready on.
	Daemon Process `json:"daemon"`
	// Files are those of the daemon in the directory that its clients have.
	Files []file `json:"files,omitempty"`
}

// Member is a container that uses the daemon.
type Member struct {
	ID string `json:"id"`
	// Cgroup is where the container's processes are, once it has some.
	Cgroup cgroup.Location `json:"cgroup"`
}

// Process is a process for good: a pid that comes again has another start time.
type Process struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"`
}

func processOf(pid int) (Process, error) {
	started, err := process.StartTime(pid)
	return Process{PID: pid, StartTime: started}, err
}

// alive is false for one that was never there. Only a process that is not there,
// or another with its number, proves a death.
func (p Process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	started, err := process.StartTime(p.PID)
	return err == nil && started == p.StartTime || err != nil && !isGone(err)
}

const recordName = "record.json"

// maxRecord bounds what is read back, in bytes.
const maxRecord = 1 << 20

func readRecord(dir string) (*Record, error) {
	path := filepath.Join(dir, recordName)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecord {
		return nil, fmt.Errorf("%s is no record", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// write replaces the record in one step. It is not synced: what it guards
// against is the death of a process, and no daemon outlives the machine's.
func (r *Record) write(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, ".new")
	err = os.WriteFile(tmp, data, 0o600)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, recordName))
	}
	if err != nil {
		return fmt.Errorf("write the record of an MPS daemon: %w", errors.Join(err, os.RemoveAll(tmp)))
	}
	return nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
