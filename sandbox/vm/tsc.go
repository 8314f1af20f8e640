// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"math"
	"time"
)

// tscWindow is for how long the counter is watched: 1 part in 10^4 at the
// nanosecond or so that a reading is off.
const tscWindow = 10 * time.Millisecond

// tscKHz measures how fast the time stamp counter runs. An emulated guest reads
// the host's counter but has no timer to learn its speed from: it would hang
// ("tsc: Unable to calibrate against PIT"; seen in every second boot on a busy
// host) unless it is told (tsc_early_khz).
func tscKHz() (int, error) {
	if rdtsc() == 0 {
		return 0, errors.New("this CPU has no time stamp counter: guests can be emulated on x86-64 only")
	}
	first, from := tscNow()
	time.Sleep(tscWindow) // the measurement itself
	last, to := tscNow()
	return int(float64(last-first) / float64(to.Sub(from).Microseconds()) * 1000), nil
}

// tscNow is a reading of the counter with its time: of several, the one that
// was least interrupted.
func tscNow() (counter uint64, at time.Time) {
	least := time.Duration(math.MaxInt64)
	for range 8 {
		before := time.Now()
		c := rdtsc()
		if d := time.Since(before); d < least {
			counter, at, least = c, before, d
		}
	}
	return counter, at
}
