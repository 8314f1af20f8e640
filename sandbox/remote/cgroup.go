// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"berth/process/cgroup"
	"berth/sandbox"
	"berth/sandbox/agentapi"
)

var _ sandbox.Cgroup = (*guestCgroup)(nil)

// guestCgroup is a container's cgroup in the guest.
type guestCgroup struct {
	r         *guest
	container string
	raised    chan struct{} // capacity 1: kills has risen

	mu    sync.Mutex
	kills uint64 // OOM kills that were told of
}

// newCgroup is for a container that is about to be made.
func (r *guest) newCgroup(container string) *guestCgroup {
	cg := &guestCgroup{r: r, container: container, raised: make(chan struct{}, 1)}
	r.mu.Lock()
	r.cgroups[container] = cg
	r.mu.Unlock()
	return cg
}

func (r *guest) forgetCgroup(container string) {
	r.mu.Lock()
	delete(r.cgroups, container)
	r.mu.Unlock()
}

func (c *guestCgroup) request() *agentapi.ContainerRequest {
	return &agentapi.ContainerRequest{Container: c.container}
}

// Kill has the guest kill all. In one that has ended nothing is alive.
func (c *guestCgroup) Kill(ctx context.Context) error {
	if c.r.isDead() {
		return nil
	}
	_, err := call(ctx, c.r, runtimeTimeout, "kill the container", c.r.agent.Kill, c.request())
	if c.r.isDead() {
		return nil
	}
	return err
}

func (c *guestCgroup) Signal(ctx context.Context, sig unix.Signal) error {
	_, err := call(ctx, c.r, signalTimeout, "send a signal", c.r.agent.Signal,
		&agentapi.SignalRequest{Container: c.container, Signal: uint32(sig)})
	if c.r.isDead() {
		return c.r.gone()
	}
	return err
}

// Pids is the one process of this kernel that stands for all in the guest.
func (c *guestCgroup) Pids() ([]int, error) { return []int{c.r.machine.Pid()}, nil }

// Stats are the guest's own. Their form is checked, not whether they are true.
func (c *guestCgroup) Stats(dst []byte) (encoded []byte, typeURL string, err error) {
	res, err := call(context.Background(), c.r, readTimeout, "read the metrics", c.r.agent.Stats, c.request())
	if err != nil {
		return nil, "", err
	}
	if res.TypeUrl != cgroup.TypeURLV1 && res.TypeUrl != cgroup.TypeURLV2 {
		return nil, "", fmt.Errorf("the guest's metrics are of type %.64q: %w", res.TypeUrl, errdefs.ErrUnknown)
	}
	for b := res.Metrics; len(b) > 0; {
		n := protowire.ConsumeFieldValue(consumeTag(&b))
		if n < 0 {
			return nil, "", fmt.Errorf("the guest's metrics are no message: %w", errdefs.ErrUnknown)
		}
		b = b[n:]
	}
	return append(dst, res.Metrics...), res.TypeUrl, nil
}

// consumeTag takes a field's tag off b and returns what ConsumeFieldValue wants.
func consumeTag(b *[]byte) (protowire.Number, protowire.Type, []byte) {
	number, kind, n := protowire.ConsumeTag(*b)
	if n < 0 {
		return 0, -1, nil // of no type that there is
	}
	*b = (*b)[n:]
	return number, kind, *b
}

// noteKills keeps the highest number that was heard.
func (c *guestCgroup) noteKills(kills uint64) {
	c.mu.Lock()
	risen := kills > c.kills
	c.kills = max(c.kills, kills)
	c.mu.Unlock()
	if risen {
		select {
		case c.raised <- struct{}{}:
		default: // told already
		}
	}
}

// OOMKills is what was heard last: the guest tells before an exit.
func (c *guestCgroup) OOMKills() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kills, nil
}

// Snapshot has nothing to do: what was told is kept.
func (c *guestCgroup) Snapshot() {}

// oomInterval is the least time between two OOM events of a container, whatever
// its guest claims.
const oomInterval = agentapi.OOMInterval

// WatchOOM tells of OOM kills, those of the next oomInterval together.
func (c *guestCgroup) WatchOOM(notify func(kills uint64)) (io.Closer, error) {
	w := &oomWatch{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-c.raised:
			case <-w.stop:
				return
			}
			kills, _ := c.OOMKills() // there is no error
			notify(kills)
			timer := time.NewTimer(oomInterval)
			select {
			case <-timer.C:
			case <-w.stop:
				timer.Stop()
				return
			}
		}
	}()
	return w, nil
}

type oomWatch struct {
	once       sync.Once
	stop, done chan struct{}
}

// Close waits until notify is not running and will not be.
func (w *oomWatch) Close() error {
	w.once.Do(func() { close(w.stop) })
	<-w.done
	return nil
}

func (c *guestCgroup) Frozen() (bool, error) {
	res, err := call(context.Background(), c.r, readTimeout, "read the freezer", c.r.agent.Frozen, c.request())
	if err != nil {
		return false, err
	}
	return res.Frozen, nil
}

func (c *guestCgroup) Thaw() error {
	_, err := call(context.Background(), c.r, readTimeout, "thaw the container", c.r.agent.Thaw, c.request())
	return err
}

// Close has nothing to do: the guest lets go with Delete.
func (c *guestCgroup) Close() error { return nil }
