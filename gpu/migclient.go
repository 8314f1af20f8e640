// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"berth/configs"
	"berth/gpu/ledger"
	"berth/gpu/mig"
	"berth/gpu/nvml"
	"berth/process"
)

// MIG makes and takes back MIG devices by berth-gpu, which alone changes
// anything, and does so by a ledger below Roots.Run.
type MIG struct {
	Helper Helper
	Roots  Roots
	Policy configs.MIGPolicy
}

var _ Slicer = MIG{}

// grace is what berth-gpu gets, beyond the time for which it waits, to put on
// record how far it came, before its caller's time is over and it is killed.
const grace = 2 * time.Second

// Acquire implements Slicer. The owner of the slices is this process.
func (m MIG) Acquire(ctx context.Context, owner SliceOwner, container string, asks []mig.Ask, usable []Device) ([]Slice, error) {
	q, err := m.request(time.Duration(m.Policy.Timeout) * time.Second)
	if err != nil {
		return nil, err
	}
	if q.Owner, err = wireOwner(owner); err != nil {
		return nil, err
	}
	q.For, q.Share = container, owner.Pod
	for _, a := range asks {
		q.Asks = append(q.Asks, nvml.MIGAsk{Profile: a.Profile, Memory: a.Memory, Count: a.Count})
	}
	for _, d := range usable {
		if len(m.Policy.GPUs) == 0 || names(m.Policy.GPUs, d) {
			q.GPUs = append(q.GPUs, nvml.GPURule{BusID: d.BusID, AllowMode: names(m.Policy.AllowMode, d)})
		}
	}
	if len(m.Policy.AllowMode) > 0 {
		defer m.Roots.forgetModes()
	}
	if len(q.GPUs) == 0 { // which for berth-gpu means all
		countUnusable(m.Roots.Run, asks)
		return nil, fmt.Errorf("no GPU may be partitioned: the configuration names none (mig.gpus) that is sound and that nobody holds whole: %w", errdefs.ErrFailedPrecondition)
	}
	made, err := m.Helper.AcquireMIG(ctx, within(ctx, q))
	if err != nil {
		return nil, err
	}
	var list []Slice
	for _, s := range made {
		list = append(list, Slice{BusID: s.BusID, GI: s.GI, CI: s.CI, UUID: s.UUID, Profile: s.Profile})
	}
	return list, nil
}

// How long a release takes. The helper sees to it for releaseTime: to destroy an
// instance takes about 1 s, there may be seven, other transactions may hold the
// lock, and who uses one may need a moment to end. A deletion waits for as much
// of that as lets the next container find room at once, if all is well; and not
// beyond its deadline, which containerd sets to 5 s for `shim delete`.
const (
	releaseTime     = time.Minute
	releasePatience = time.Second
	releaseMargin   = time.Second
)

// Release implements Slicer.
func (m MIG) Release(ctx context.Context, owner SliceOwner) error {
	if none, err := ledger.Without(m.Roots.Run, owner.Group); err != nil || none {
		return err
	}
	keep := time.Duration(m.Policy.KeepIdle) * time.Second
	q, err := m.request(releaseTime + keep)
	if err != nil {
		return err
	}
	if q.Owner, err = wireOwner(owner); err != nil {
		return err
	}
	q.KeepIdleMS = keep.Milliseconds()
	patience := releasePatience
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)-releaseMargin)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err = m.Helper.ReleaseMIG(ctx, q); errors.Is(err, errGoesOn) {
		return nil
	}
	return err
}

// Sweep takes back what owners that are gone have left, and with idle what is
// kept for the next; or says with dry what it would take back. Claims of
// containers whose bundles are gone are forgotten with it.
func (m MIG) Sweep(ctx context.Context, dry, idle bool) ([]nvml.MIGAction, error) {
	q, err := m.request(time.Duration(m.Policy.Timeout) * time.Second)
	if err == nil && !dry {
		err = m.Roots.forgetAbandoned()
	}
	if err != nil {
		return nil, err
	}
	q.DryRun, q.GiveUpIdle = dry, idle
	return m.Helper.SweepMIG(ctx, q)
}

// List says what is in each GPU that can do MIG, and what a container would find room for.
func (m MIG) List(ctx context.Context) (*nvml.MIGList, error) {
	q, err := m.request(helperTimeout)
	if err != nil {
		return nil, err
	}
	list, err := m.Helper.ListMIG(ctx, q)
	if err == nil {
		err = m.leaveAlone(list)
	}
	return list, err
}

// Refusals are how often nobody got a slice, since the last boot.
func (m MIG) Refusals() ([]ledger.Refusal, error) { return ledger.Refusals(m.Roots.Run) }

func (m MIG) request(timeout time.Duration) (nvml.MIGRequest, error) {
	q, err := m.Roots.MIGRequest(timeout)
	q.ShareForeign = m.Policy.ShareForeign
	return q, err
}

// within is a request whose deadline leaves the helper grace before the
// caller's.
func within(ctx context.Context, q nvml.MIGRequest) nvml.MIGRequest {
	if end, ok := ctx.Deadline(); ok {
		q.TimeoutMS = max(1, min(q.TimeoutMS, time.Until(end.Add(-grace)).Milliseconds()))
	}
	return q
}

// wireOwner is an owner as the ledger has it.
func wireOwner(o SliceOwner) (*nvml.Owner, error) {
	started, err := process.StartTime(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("look when this process started: %w", err)
	}
	out := &nvml.Owner{Namespace: o.Namespace, Container: o.ID, Group: o.Group, PID: os.Getpid(), StartTime: started}
	if o.Pod { // no container is called like that: an id of containerd's has no colon
		out.Container, out.Pod = "pod:"+o.ID, o.ID
	}
	return out, nil
}

// names says whether a list of UUIDs and PCI addresses has the GPU in it.
func names(list []string, d Device) bool {
	return slices.ContainsFunc(list, func(name string) bool {
		return strings.EqualFold(name, d.BusID) || d.UUID != "" && strings.EqualFold(name, d.UUID)
	})
}
