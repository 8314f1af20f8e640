// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	said      time.Time     // when its want of memory was last; guarded by guest.mu

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
	if err := c.r.wake(ctx); err != nil {
		return err
	}
	_, err := call(ctx, c.r, runtimeTimeout, "kill the container", c.r.agent.Kill, c.request())
	if c.r.isDead() {
		return nil
	}
	if err == nil {
		c.r.mustEndAll(c.container)
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

// Meter is a Machine that says what it uses of the host.
type Meter interface {
	// Stats appends the metrics of all its processes, in the form of the host.
	Stats(dst []byte) (encoded []byte, typeURL string, err error)
}

// Stats are the guest's own, in the form that the host's would have: its numbers, not
// its message, and not whether they are true. The sandbox of a pod, in which nothing
// happens, stands for the machine: its are what that uses of the host beside
// what the guest counts for the other containers.
func (c *guestCgroup) Stats(dst []byte) (encoded []byte, typeURL string, err error) {
	if meter, ok := c.r.machine.(Meter); ok && c.r.isSandbox(c.container) {
		return c.r.overhead(dst, meter)
	}
	res, m, err := c.inside()
	if err != nil {
		return nil, "", err
	}
	if res.TypeUrl == cgroup.TypeURLV2 && c.r.hostV1 {
		return m.appendV1(dst), cgroup.TypeURLV1, nil
	}
	return m.append(dst, partsOf(res.TypeUrl), numbers{}, 0), res.TypeUrl, nil
}

// inside are the container's metrics as the guest has them.
func (c *guestCgroup) inside() (*agentapi.StatsResponse, metrics, error) {
	limit, err := c.r.patience.left(time.Now())
	if err != nil {
		return nil, nil, err
	}
	began := time.Now()
	res, err := call(context.Background(), c.r, limit, "read the metrics", c.r.agent.Stats, c.request())
	c.r.patience.spend(began, time.Now())
	if err != nil {
		return nil, nil, err
	}
	m, err := decodeMetrics(res.Metrics, res.TypeUrl)
	if err != nil {
		return nil, nil, fmt.Errorf("from the guest: %w", err)
	}
	return res, m, nil
}

// overhead are the metrics of the machine without those of its containers. What
// cannot be read, of a container that is on its way or gone, is not taken off.
func (r *guest) overhead(dst []byte, meter Meter) (encoded []byte, typeURL string, err error) {
	host, typeURL, err := meter.Stats(nil)
	if err != nil {
		return nil, "", fmt.Errorf("read the metrics of the machine: %w", err)
	}
	m, err := decodeMetrics(host, typeURL)
	if err != nil {
		return nil, "", err
	}
	r.mu.Lock()
	cgroups := slices.Collect(maps.Values(r.cgroups))
	r.mu.Unlock()
	var inside []usage
	for _, c := range cgroups {
		if res, m, err := c.inside(); err == nil && !r.isSandbox(c.container) {
			inside = append(inside, m.usage(res.TypeUrl))
		}
	}
	m.lessGuest(typeURL, inside)
	return m.append(dst, partsOf(typeURL), numbers{}, 0), typeURL, nil
}

func (r *guest) isSandbox(container string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.demands[container].isSandbox
}

// hasV1 is true where containerd expects metrics in the form of v1: where the
// host's controllers are not all in the unified hierarchy.
func hasV1() bool {
	place, err := cgroup.Place("/")
	return err == nil && place.Version != cgroup.V2
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
	if err := c.r.wake(context.Background()); err != nil {
		return err
	}
	_, err := call(context.Background(), c.r, readTimeout, "thaw the container", c.r.agent.Thaw, c.request())
	return err
}

// Close has nothing to do: the guest lets go with Delete.
func (c *guestCgroup) Close() error { return nil }
