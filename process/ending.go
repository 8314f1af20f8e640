// SPDX-License-Identifier: Apache-2.0

package process

import (
	"path/filepath"
	"strconv"
)

// exiting is PF_EXITING of a thread's flags (include/linux/sched.h), field 9 of its
// stat file.
const exiting = 0x4

// Ending tells whether the process has exited or is about to, of which Done tells
// only at its end. The init of a PID namespace lets go of its namespaces first, and
// then waits until all others in it have been reaped.
func (p *Process) Ending() bool {
	select {
	case <-p.done:
		return true
	default:
	}
	if p.send != nil { // it is elsewhere, and its pid is nobody's here
		return false
	}
	// One whose first thread alone has ended goes on.
	threads, _ := filepath.Glob("/proc/" + strconv.Itoa(p.pid) + "/task/*/stat")
	for _, thread := range threads {
		if flags, err := statField(thread, 9); err == nil && flags&exiting == 0 {
			return false
		}
	}
	return len(threads) > 0
}
