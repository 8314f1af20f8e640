// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/process/cgroup"
	"berth/sandbox/agentapi"
)

// oomWatch tells the host of a container's OOM kills, no faster than it may.
type oomWatch struct {
	*cgroup.OOMWatch
	stop context.CancelFunc
}

// watchOOM is nil where they cannot be watched. Exits tell of them then.
func (s *server) watchOOM(id string, cg *cgroup.Cgroup) *oomWatch {
	ctx, stop := context.WithCancel(context.Background())
	w, err := cg.WatchOOM(paced(ctx, func(kills uint64) {
		s.tell(&agentapi.Event{Event: &agentapi.Event_Oom{Oom: &agentapi.OOM{Container: id, Kills: kills, Machine: withinLimit(cg.Location())}}})
	}))
	if err != nil {
		stop()
		return nil
	}
	return &oomWatch{w, stop}
}

// withinLimit is true for a cgroup whose limit was never what an OOM kill was for:
// memory.events counts that apart (oom, cgroup-v2.rst).
func withinLimit(loc cgroup.Location) bool {
	text, err := os.ReadFile(filepath.Join(loc.Dirs[cgroup.Unified].Path, "memory.events"))
	if err != nil {
		return false // it has gone, or there is cgroup v1
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom" {
			return f[1] == "0"
		}
	}
	return false
}

// Close does not wait for the next time that the host may be told. It may be
// called again.
func (w *oomWatch) Close() error {
	w.stop()
	return w.OOMWatch.Close()
}

// paced holds up whoever tells, for as long as it may not tell again. What the
// watch notices meanwhile it tells next, in one.
func paced(ctx context.Context, tell func(kills uint64)) func(kills uint64) {
	return func(kills uint64) {
		tell(kills)
		timer := time.NewTimer(agentapi.OOMInterval)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}
