// SPDX-License-Identifier: Apache-2.0

package process

// Spare is a Hold under which no process that this program has forked is
// reaped but by its watcher. It is for code that starts children and waits for
// them by itself; the orphans of containers, which have sessions of their own,
// do not pile up meanwhile.
//
// A zombie waits for the end of the Spares that were open when it was seen first
// and for no later one: whoever waits for it had forked it by then. So those
// that nobody waits for, as what a hook has left running, go even where one
// Spare overlaps the next for ever.
func (s *Supervisor) Spare() *Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
	s.spares[s.begun] = struct{}{}
	return &Hold{s: s, spare: s.begun}
}

// sighting is when a zombie was seen first.
type sighting struct {
	started uint64 // StartTime: which process of that pid it is
	latest  uint64 // the latest Spare by then
}

// noteSparedLocked notes a zombie that is not reaped for a Spare's sake.
func (s *Supervisor) noteSparedLocked(pid int) {
	started, err := StartTime(pid)
	if seen, ok := s.spared[pid]; err != nil || ok && seen.started == started {
		return // it was reaped in this moment, or is noted already
	}
	if s.spared == nil {
		s.spared = make(map[int]sighting)
	}
	s.spared[pid] = sighting{started: started, latest: s.begun}
}

// endSpareLocked ends a Spare. With the last one whatever is left is nobody's.
func (s *Supervisor) endSpareLocked(number uint64) {
	delete(s.spares, number)
	if len(s.spares) == 0 {
		s.spared = nil
	}
}

// oldestSpareLocked is the number of the Spare that is open for the longest.
func (s *Supervisor) oldestSpareLocked() uint64 {
	oldest := s.begun + 1
	for number := range s.spares {
		oldest = min(oldest, number)
	}
	return oldest
}

// reapForgotten reaps what was spared and is still there although every Spare of
// that time has ended, and forgets what is not there any more.
func (r *orphanReaper) reapForgotten() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	oldest := r.s.oldestSpareLocked()
	for pid, seen := range r.s.spared {
		if seen.latest >= oldest {
			continue
		}
		if started, err := StartTime(pid); err == nil && started == seen.started && r.s.owned[pid] == nil && !r.reapLocked(pid) {
			continue // the table of exits is full
		}
		delete(r.s.spared, pid)
	}
}
