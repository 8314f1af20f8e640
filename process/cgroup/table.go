// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// table keeps the cgroup mounts of this process. To read the whole mount table
// takes milliseconds on a host with hundreds of mounts, and each container needs it
// more than once.
type table struct {
	mu          sync.Mutex
	hierarchies string // as /proc/self/cgroup had them when the mounts were read
	mounts      []mount
	reads       int
}

// own is of this process: a variable of the package, because a process has one
// mount table, and what is kept changes no answer.
var own table

// get reads the mount table anew when there are other hierarchies than when it was
// read, and when one is no longer mounted where it was. What is not looked for is
// a second place of one that is known, and the first of one that the host had but
// not this mount namespace. The mounts are not to be changed.
func (t *table) get(v view) ([]mount, error) {
	memberships, err := v.readFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	now := hierarchies(string(memberships))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reads > 0 && now == t.hierarchies && !slices.ContainsFunc(t.mounts, mount.moved) {
		return t.mounts, nil
	}
	mounts, err := v.mounts()
	if err != nil {
		return nil, err
	}
	t.hierarchies, t.mounts = now, mounts
	t.reads++
	return mounts, nil
}

// hierarchies is what /proc/PID/cgroup says but for the paths (cgroups(7)).
func hierarchies(memberships string) string {
	var b strings.Builder
	for line := range strings.Lines(memberships) {
		id, rest, _ := strings.Cut(line, ":")
		controllers, _, _ := strings.Cut(rest, ":")
		b.WriteString(id + ":" + controllers + "\n")
	}
	return b.String()
}

// moved tells whether something else is where the mount was, or nothing.
func (m mount) moved() bool {
	var st unix.Stat_t
	return unix.Stat(m.point, &st) != nil || st.Dev != m.device
}

// known are the mounts of the viewed host: kept, if it is this one.
func (v view) known() ([]mount, error) {
	if v.root != "" {
		return v.mounts()
	}
	return own.get(v)
}
