// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// patience is how long a guest's metrics are waited for, those of all its containers
// together. containerd asks for those of a node's containers one after the other,
// so that what one guest takes its time for, all others wait for.
//
// There are readTimeout of it, and what was spent is back after twice as long.
type patience struct {
	mu   sync.Mutex
	back time.Time // when all of it is
}

// worthAsking is the least time in which an answer can be expected.
const worthAsking = time.Second

// left is how long the next answer may take; an error if that is not worth it.
func (p *patience) left(now time.Time) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := readTimeout - max(0, p.back.Sub(now)/2)
	if left < worthAsking {
		return 0, fmt.Errorf("the VM has taken its time for metrics, and is asked again in %v: %w",
			2*(worthAsking-left), errdefs.ErrUnavailable)
	}
	return left, nil
}

// spend takes off what an answer took.
func (p *patience) spend(began, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.back.Before(now) {
		p.back = now
	}
	p.back = p.back.Add(2 * now.Sub(began))
}
