// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxOOMScore is OOM_SCORE_ADJ_MAX of linux/oom.h.
const maxOOMScore = 1000

// raiseOOMScore makes this process a little more likely to be killed for
// memory than containerd, which can restart, and than nothing else: its score
// becomes containerd's plus one (proc_pid_oom_score_adj(5)).
func raiseOOMScore(containerd int) error {
	parent, err := readOOMScore(strconv.Itoa(containerd))
	if err != nil {
		return fmt.Errorf("read the OOM score of the parent: %w", err)
	}
	score := min(parent+1, maxOOMScore)
	err = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0)
	if errors.Is(err, fs.ErrPermission) {
		// Without CAP_SYS_RESOURCE a score cannot be lowered. One that is
		// higher already does what is wanted.
		if own, readErr := readOOMScore("self"); readErr == nil && own >= score {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("set the OOM score to %d: %w", score, err)
	}
	return nil
}

func readOOMScore(pid string) (int, error) {
	data, err := os.ReadFile("/proc/" + pid + "/oom_score_adj")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// joinCgroup moves this process into a cgroup that exists: on the unified
// hierarchy if it is the only one, else on each hierarchy of version 1 that
// has the cgroup.
func joinCgroup(path string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("find the cgroup hierarchies: %w", err)
	}
	mounts, err := cgroupMounts(f)
	_ = f.Close()
	if err != nil {
		return fmt.Errorf("find the cgroup hierarchies: %w", err)
	}
	joined := 0
	for _, mount := range mounts {
		procs := filepath.Join(mount, path, "cgroup.procs")
		err := writeExisting(procs, "0") // the writer itself, see cgroups(7)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("join ShimCgroup %q: %w", path, err)
		}
		joined++
	}
	if joined == 0 {
		return fmt.Errorf("join ShimCgroup %q: there is no such cgroup in %s; create it first: %w",
			path, strings.Join(mounts, ", "), errdefs.ErrNotFound)
	}
	return nil
}

func writeExisting(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// cgroupMounts reads the mount points of the hierarchies from a mountinfo
// (proc_pid_mountinfo(5)): those of version 1, or that of version 2 if there
// are no others.
func cgroupMounts(r io.Reader) ([]string, error) {
	var v1, v2 []string
	seen := make(map[string]bool) // by device: a hierarchy may be mounted often
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		before, after, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || seen[fields[2]] {
			continue
		}
		switch kind, _, _ := strings.Cut(after, " "); kind {
		case "cgroup":
			v1 = append(v1, unescapeMount(fields[4]))
		case "cgroup2":
			v2 = append(v2, unescapeMount(fields[4]))
		default:
			continue
		}
		seen[fields[2]] = true
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(v1) > 0 {
		return v1, nil
	}
	return v2, nil
}

// unescapeMount undoes the octal escapes of blanks and backslashes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ownMountsFlag tells a shim that it is in a mount namespace of its own.
const ownMountsFlag = "own-mounts"

// keepMounts keeps what is mounted in this mount namespace, a copy of the
// host's, from the host, and lets come in what the host mounts
// (mount_namespaces(7), MS_SLAVE). In the host's own it would cut that off from
// all others, so it is for a shim that `start` has just put into another.
func keepMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts from the host: %w", err)
	}
	return nil
}

// createCoreSchedulingDomain gives this process group a core scheduling
// cookie of its own, which all its later children share: no stranger then
// runs beside them on another thread of the same core
// (Documentation/admin-guide/hw-vuln/core-scheduling.rst of the kernel).
func createCoreSchedulingDomain() error {
	const pidTypeProcessGroup = 2 // PIDTYPE_PGID
	err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, pidTypeProcessGroup, 0)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("SCHED_CORE is set, but the CPU has no SMT, or it is off: %w", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("SCHED_CORE is set, but the kernel lacks CONFIG_SCHED_CORE: %w", err)
	case err != nil:
		return fmt.Errorf("create a core scheduling domain: %w", err)
	}
	return nil
}
