// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// counters are the OOM counters of one reading. The first group is of v1's
// memory.oom_control, the second of v2's memory.events.
type counters struct {
	valid bool // false until the first reading, and without a memory controller
	gone  bool // the last reading before the removal; final

	killDisable, underOOM uint64

	low, high, max, oom, oomGroupKill uint64

	oomKill uint64 // processes killed by the OOM killer (both)
	parent  uint64 // v2: oom_kill of the parent's memory.events, read with the rest
}

// OOMKills is the number of this cgroup's processes that the kernel's OOM
// killer has killed: oom_kill of memory.oom_control (v1, this cgroup alone;
// cgroup-v1/memory.rst) or of memory.events (v2, with descendants;
// cgroup-v2.rst).
//
// The kernel raises the counter before it sends the SIGKILL, so a reading after
// the exit of a process explains that exit. When the cgroup has been removed
// the last counters seen answer. On v2, where a manager may remove a cgroup the
// moment it is empty, kills counted by the parent (pod) cgroup since that last
// reading are added once: they may be another container's that died in the same
// moment, which is rarer than a kill that nobody could read.
//
// The error is errdefs.ErrNotImplemented without a memory controller.
func (c *Cgroup) OOMKills() (uint64, error) {
	counts, _ := c.current()
	if !counts.valid {
		return 0, fmt.Errorf("count OOM kills: cgroup has no memory controller here: %w", errdefs.ErrNotImplemented)
	}
	return counts.oomKill, nil
}

// Snapshot reads the OOM counters and keeps them for the time after the cgroup
// was removed. Call it when a process of the container has exited, before
// anything can remove the cgroup.
func (c *Cgroup) Snapshot() { c.current() }

// current reads the counters, or returns the last ones with gone set when the
// cgroup was removed or closed.
func (c *Cgroup) current() (counts counters, gone bool) {
	if !c.acquire() {
		return c.lastCounters(), true
	}
	defer c.release()
	s := c.takeScratch()
	defer c.scratch.Put(s)
	counts = c.readCounters(s)
	return counts, s.gone
}

// readCounters reads and keeps the counters. Its result when the cgroup is gone
// (s.gone) is the last one kept.
func (c *Cgroup) readCounters(s *scratch) counters {
	var now counters
	var text []byte
	file := c.oomFile()
	if file < 0 {
		return counters{}
	}
	if c.parent >= 0 {
		// Before our own: a kill between the two is then counted twice rather
		// than never, and only if the cgroup is gone at the next reading.
		now.parent, _ = lookup(s.read(c.parent), "oom_kill")
	}
	s.gone = false // the parent's removal is told by our own file's
	text = s.read(file)
	if s.gone {
		return c.finish(now.parent)
	}
	if text == nil {
		return c.lastCounters()
	}
	now.parse(text)
	return c.keep(now)
}

// oomFile is the descriptor of the file with the counters, or -1.
func (c *Cgroup) oomFile() int {
	if c.loc.Version == V2 {
		return c.fds[v2MemoryEvents]
	}
	return c.fds[v1OOMControl]
}

// parse reads memory.oom_control or memory.events: no key is in both except
// oom_kill, which means the same.
func (n *counters) parse(text []byte) {
	n.valid = true
	for {
		key, value, rest, ok := nextPair(text)
		if !ok {
			return
		}
		switch string(key) {
		case "oom_kill_disable":
			n.killDisable = value
		case "under_oom":
			n.underOOM = value
		case "low":
			n.low = value
		case "high":
			n.high = value
		case "max":
			n.max = value
		case "oom":
			n.oom = value
		case "oom_kill":
			n.oomKill = value
		case "oom_group_kill":
			n.oomGroupKill = value
		}
		text = rest
	}
}

// keep stores a reading unless a concurrent one has seen more, and returns it.
// It allocates only when something changed.
func (c *Cgroup) keep(now counters) counters {
	for {
		old := c.counters.Load()
		if old != nil && (old.gone || old.oomKill > now.oomKill || *old == now) {
			return *old
		}
		stored := now
		if old != nil {
			stored.parent = max(stored.parent, old.parent)
		}
		if c.counters.CompareAndSwap(old, &stored) {
			return now
		}
	}
}

// finish closes the books when the cgroup has been removed: what the parent
// counted since our last reading is attributed to us, once. parent is 0 when
// there is none or it was removed too.
func (c *Cgroup) finish(parent uint64) counters {
	for {
		old := c.counters.Load()
		if old == nil {
			return counters{}
		}
		if old.gone {
			return *old
		}
		final := *old
		final.gone = true
		if parent > old.parent {
			final.oomKill += parent - old.parent
			final.parent = parent
		}
		if c.counters.CompareAndSwap(old, &final) {
			return final
		}
	}
}

// lastCounters returns what the last reading kept.
func (c *Cgroup) lastCounters() counters {
	if last := c.counters.Load(); last != nil {
		return *last
	}
	return counters{}
}
