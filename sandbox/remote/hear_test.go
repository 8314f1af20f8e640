// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"testing"
	"time"
)

// What a guest tells does not fill the host's log.
func TestMaySay(t *testing.T) {
	r := &guest{cgroups: make(map[string]*guestCgroup)}
	r.newCgroup("a")
	r.newCgroup("b")
	now := time.Now()
	for i, c := range []struct {
		container string
		after     time.Duration
		want      bool
	}{
		{"a", 0, true}, {"a", sayAgain - 1, false}, {"b", 1, true}, {"a", sayAgain, true}, {"a", sayAgain + 1, false}, {"c", 0, false},
	} {
		if got := r.maySay(c.container, now.Add(c.after)); got != c.want {
			t.Errorf("%d, of %s: %v", i, c.container, got)
		}
	}
}
