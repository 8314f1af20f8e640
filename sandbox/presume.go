// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/process/cgroup"
)

// presume puts together a record in the place of one that makes no sense: what
// can be read of it, and the cgroup that the spec names. How the init ended is
// unknown then, whatever the rest of the record may seem to say.
func presume(r CleanupRequest) *record {
	rec := new(record)
	if data, err := os.ReadFile(filepath.Join(r.Bundle, recordName)); err == nil {
		rec = salvage(data)
	}
	rec.ID, rec.Clean = r.ID, false
	if rec.Cgroup == nil && rec.Claimed == nil {
		rec.Claimed = specCgroup(r, rec.Runtime)
	}
	rec.Exit = newExitRecord(process.Exit{Status: unknown, At: time.Now()})
	return rec
}

// salvage reads a record up to where it makes no sense. One that was written
// over another, and not to its end, begins with the newer one's facts; the pid
// has its start time to tell it from another, a cgroup its inode.
func salvage(data []byte) *record {
	rec := new(record)
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return rec
	}
	for d.More() {
		key, err := d.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			break
		}
		fact, err := json.Marshal(map[string]json.RawMessage{name: value})
		if err != nil {
			break
		}
		if next := *rec; json.Unmarshal(fact, &next) == nil { // one of another type is none
			*rec = next
		}
	}
	if rec.Pid < 0 {
		rec.Pid = 0
	}
	return rec
}

// specCgroup is where the container's cgroup is according to its spec, nil
// where that is not known or holds others too. runc makes no container in a
// cgroup that has processes, so that what is in it is the container's.
func specCgroup(r CleanupRequest, o configs.Runtime) *cgroup.Location {
	spec, err := hooks.LoadSpec(r.Bundle, r.ID)
	if err != nil {
		return nil
	}
	loc, err := cgroup.Place(cgroupsPath(spec, o))
	if err != nil {
		return nil
	}
	for _, dir := range loc.Dirs {
		if dir.Shared {
			return nil
		}
	}
	return &loc
}
