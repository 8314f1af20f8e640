// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// However many containers it has, a guest that is late keeps whoever asks for
// metrics waiting for readTimeout, and then for half of the time; one that answers at
// once always has readTimeout.
func TestPatience(t *testing.T) {
	now := time.Now()
	var p patience
	poll := func(containers int, each time.Duration) (waited time.Duration, told int) {
		for range containers {
			limit, err := p.left(now)
			if err != nil {
				if !errdefs.IsUnavailable(err) {
					t.Fatal(err)
				}
				continue
			}
			took := min(each, limit)
			p.spend(now, now.Add(took))
			now, waited = now.Add(took), waited+took
			if each <= limit {
				told++
			}
		}
		return waited, told
	}
	if waited, told := poll(100, 10*time.Millisecond); told != 100 || waited != time.Second {
		t.Errorf("a guest that answers told of %d containers, in %v", told, waited)
	}
	now = now.Add(2 * readTimeout)
	if waited, _ := poll(100, time.Hour); waited != readTimeout {
		t.Errorf("a guest that does not answer was waited for %v", waited)
	}
	for range 10 {
		now = now.Add(readTimeout)
		if waited, _ := poll(100, readTimeout-time.Millisecond); waited > readTimeout {
			t.Errorf("a guest that answers at the last moment was waited for %v", waited)
		}
	}
	now = now.Add(2 * readTimeout)
	if limit, err := p.left(now); limit != readTimeout || err != nil {
		t.Errorf("after a while there are %v, %v", limit, err)
	}
}

// Who has spent it is not asked.
func TestPatienceIsSpent(t *testing.T) {
	needRoot(t)
	d := newDen(t)
	d.stats.TypeUrl = "io.containerd.cgroups.v2.Metrics"
	b := d.Box("a", "").Run()
	if _, _, err := b.C.Stats(nil); err != nil {
		t.Errorf("stats: %v", err)
	}
	d.runtime.life.guest.patience.spend(time.Now().Add(-readTimeout), time.Now())
	if _, _, err := b.C.Stats(nil); !errdefs.IsUnavailable(err) {
		t.Errorf("stats of a guest that was late: %v", err)
	}
	d.tell(exitOf(d.process(0), 0))
	b.Wait("")
	b.Delete("")
}
