// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/gpu/nvml"
	"berth/process"
	"berth/process/cgroup"
)

// Life says what there is of the tenant. The shim alone is not enough: it may be killed while
// containerd is not there to clean up after it, and then the container lives on. The container's
// cgroup tells that. What cannot be read is no proof of death, nor is what is not seen from another
// pid namespace, where a cgroup's processes cannot be told either.
func (t *Tenant) Life(bootID string) Life {
	switch {
	case t.BootID == "":
		return Unknown
	case t.BootID != bootID:
		return Gone
	case !here(t.PIDNamespace):
		return Hidden
	case running(t.PID, t.StartTime):
		return Served
	}
	for _, loc := range t.Cgroups {
		if life := population(loc); life != Gone {
			return life
		}
	}
	return Gone
}

// OwnerLife is that of the liveliest tenant of an owner, and who that is. An owner without one is
// gone: its last container was deleted. except names a container that does not count.
func OwnerLife(run, bootID string, o nvml.Owner, except string) (Life, *Tenant) {
	all, err := Tenants(run)
	if err != nil {
		return Unknown, nil
	}
	best, who := Gone, (*Tenant)(nil)
	for _, t := range all {
		if !t.Of(o) || t.Container == except {
			continue
		}
		switch life := t.Life(bootID); {
		case life == Served:
			return life, t
		case life != Gone:
			best, who = life, t
		}
	}
	return best, who
}

// here says that pids of a pid namespace are those that this process sees.
func here(ns uint64) bool {
	own, err := process.PIDNamespace()
	return err == nil && own == ns
}

// running says that the process known by pid and start time lives.
func running(pid int, started uint64) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		return false
	}
	// proc_pid_stat(5): field 3 follows the name's last bracket; 22 is the start time.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if err != nil || len(fields) < 20 {
		return !errors.Is(err, unix.ESRCH)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return err == nil && start == started && fields[0][0] != 'Z' && fields[0][0] != 'X'
}

// population says whether there is a process in a cgroup, or below it. A container that has none
// to itself cannot be judged by it.
func population(loc cgroup.Location) Life {
	cg, err := cgroup.Load(loc)
	if errdefs.IsNotFound(err) {
		return Gone
	}
	if err != nil {
		return Unknown
	}
	defer func() { _ = cg.Close() }()
	switch empty, err := cg.Empty(); {
	case errdefs.IsFailedPrecondition(err), err == nil && empty:
		return Gone
	case err != nil:
		return Unknown
	}
	return Orphaned
}
