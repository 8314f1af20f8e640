// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/process"
	"berth/process/cgroup"
)

// recordName is the file in the bundle that a later process reads to finish
// what this one began.
const recordName = "berth.json"

// maxRecord bounds what is read back, in bytes. A record is about 1 KiB.
const maxRecord = 1 << 20

// A record has whole blocks of recordRoom bytes, as most file systems do, and
// recordSpare bytes in them for what is yet to come: the exit takes about 100.
const (
	recordRoom  = 4 << 10
	recordSpare = 256
)

// The bounds of a record's notes: how many, and of how many bytes.
const (
	maxNotes = 16
	maxNote  = 256
)

// record is what `shim delete` must know of a container, in a process that
// did not make it. It is written before the runtime is asked for anything,
// and again as each fact becomes known.
type record struct {
	ID        string          `json:"id"`
	Namespace string          `json:"namespace"`
	Runtime   configs.Runtime `json:"runtime"`
	// Pid and StartTime (field 22 of /proc/PID/stat, in clock ticks since
	// boot) name the init; a reused pid has another start time.
	Pid       int              `json:"pid,omitempty"`
	StartTime uint64           `json:"start_time,omitempty"`
	Cgroup    *cgroup.Location `json:"cgroup,omitempty"`
	// Claimed is where the runtime was to make the cgroup, if there was none
	// before: what is in it is then the container's, even if nothing else is
	// known of it.
	Claimed *cgroup.Location `json:"claimed,omitempty"`
	// Shim is the pid of the shim that made the container, which is also the
	// process group of the runtime and its hooks.
	Shim int `json:"shim,omitempty"`
	// Notes are what was found out about the container: see Container.Note.
	Notes []string `json:"notes,omitempty"`
	// Exit is how the init ended, once it has.
	Exit *exitRecord `json:"exit,omitempty"`
	// Clean is set once nothing of the container is left.
	Clean bool `json:"clean,omitempty"`
}

type exitRecord struct {
	Status int       `json:"status"`
	At     time.Time `json:"at"`
	Known  bool      `json:"known"`
}

func newExitRecord(e process.Exit) *exitRecord {
	return &exitRecord{Status: e.Status, At: e.At, Known: e.Known}
}

func (e *exitRecord) exit() process.Exit {
	return process.Exit{Status: e.Status, At: e.At, Known: e.Known}
}

// write replaces the record in the bundle in one step, so that a reader finds
// the old one or the new one. It is not synced: what it guards against is the
// death of the shim, and nothing of the container outlives that of the host.
//
// On a full disk, where there is no room for two, the new one is written over
// the old one, which has room for it: an exit is put on record all the
// same. A reader may then find neither if this process dies in that one write.
func (r *record) write(bundle string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	pad := recordSpare
	pad += recordRoom - 1 - (len(data)+pad-1)%recordRoom
	err = replaceRecord(bundle, append(data, bytes.Repeat([]byte("\n"), pad)...))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if overwriteRecord(bundle, data) == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("write the container's record: %w", err)
	}
	return nil
}

func replaceRecord(bundle string, data []byte) error {
	tmp, err := os.CreateTemp(bundle, "."+recordName+"-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(bundle, recordName))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

func overwriteRecord(bundle string, data []byte) error {
	f, err := os.OpenFile(filepath.Join(bundle, recordName), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil { // all of the old one, whose blocks are not to be lost
		pad := max(0, int(info.Size())-len(data))
		_, err = f.Write(append(data, bytes.Repeat([]byte("\n"), pad)...))
	}
	return errors.Join(err, f.Close())
}

// readRecord returns fs.ErrNotExist where no container was begun in bundle.
func readRecord(bundle string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(bundle, recordName))
	if err != nil {
		return nil, err
	}
	return parseRecord(data)
}

func parseRecord(data []byte) (*record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("%s has %d bytes; a record has at most %d", recordName, len(data), maxRecord)
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", recordName, err)
	}
	if r.Pid < 0 {
		return nil, fmt.Errorf("read %s: pid %d is negative", recordName, r.Pid)
	}
	return r, nil
}
