// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Namespaces are those that a launcher must be started in (clone(2)).
const Namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Spec is a jail and the program in it.
type Spec struct {
	// Path is the program's, Args its arguments without argv[0]; its
	// environment is empty.
	Path string   `json:"path"`
	Args []string `json:"args"`

	// Cgroups are the directories of the cgroups that it joins, one in each
	// hierarchy.
	Cgroups []string `json:"cgroups,omitempty"`
	// Network is an inherited descriptor of a network namespace that it joins;
	// 0 leaves it in that of its parent. The descriptor is closed.
	Network int `json:"network,omitempty"`
	// Shown are absolute paths of the host's that it sees at the same place,
	// read-only; what is not there is left out.
	Shown []string `json:"shown,omitempty"`
	// Shared is a directory of the host's that it sees at the same place, as it is
	// there, with what is mounted below it, later too.
	Shared string `json:"shared,omitempty"`
	// Devices are the device nodes that it can open.
	Devices []Device `json:"devices,omitempty"`

	// Proc shows it its own processes at /proc, and nothing else there: a
	// program that takes only paths finds its descriptors by them.
	Proc bool `json:"proc,omitempty"`
	// Settings are files of the host's below /proc/sys of which it gets a copy.
	// With them there is of its processes only /proc/self.
	Settings []string `json:"settings,omitempty"`
	// Idle has it run only where a CPU has nothing else to do (sched(7),
	// SCHED_IDLE).
	Idle bool `json:"idle,omitempty"`

	// UID and GID are whom it runs as. With UID 0 it keeps Capabilities.
	UID int `json:"uid"`
	GID int `json:"gid"`
	// Capabilities are numbers (capabilities(7)); only root can have any.
	Capabilities []int `json:"capabilities,omitempty"`

	// SmallBlocks has it get no huge page for a block of memory that is not larger
	// than one, though it asks for it.
	SmallBlocks bool `json:"small_blocks,omitempty"`

	// Filtered refuses it system calls that no daemon which serves files needs, and
	// with them processes and namespaces of its own, in each of its threads.
	Filtered bool `json:"filtered,omitempty"`

	// OpenFiles and Threads limit what it may have of them (RLIMIT_NOFILE,
	// RLIMIT_NPROC); 0 leaves the limit. It never dumps core.
	OpenFiles uint64 `json:"open_files,omitempty"`
	Threads   uint64 `json:"threads,omitempty"`
	// Locked is how many bytes it may lock in memory (RLIMIT_MEMLOCK); 0
	// leaves the limit.
	Locked uint64 `json:"locked,omitempty"`

	// Parent is an inherited descriptor of a socket whose peer the parent
	// holds: if that hung up the parent died before the death signal was set.
	Parent int `json:"parent"`
}

// Device is a device node.
type Device struct {
	Path  string `json:"path"`
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

// maxSpec bounds what is read of a Spec: it must fit a pipe (pipe(7)).
const maxSpec = 64 << 10

// Pipe returns a descriptor to hand to the launcher, from which it can read the
// spec. The caller closes it once the launcher was started.
func (s *Spec) Pipe() (*os.File, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode a jail: %w", err)
	}
	if len(data) > maxSpec {
		return nil, fmt.Errorf("a jail's description has %d bytes: more than %d", len(data), maxSpec)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close() }()
	if _, err := w.Write(data); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("write a jail's description: %w", err)
	}
	return r, nil
}

// read takes the spec from an inherited descriptor, and closes it.
func read(fd int) (*Spec, error) {
	f := os.NewFile(uintptr(fd), "jail")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is none", fd)
	}
	defer func() { _ = f.Close() }()
	var s Spec
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("read the jail's description: %w", err)
	}
	return &s, nil
}
