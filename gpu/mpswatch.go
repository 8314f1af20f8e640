// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"

	"berth/gpu/mps"
	"berth/hooks"
)

// daemon is one that this shim has started.
type daemon struct {
	owner   mps.Owner
	seat    *mps.Seat
	devices []string
}

// watchDaemon hands a daemon to serveMPS, if that runs.
func (h *Hook) watchDaemon(d daemon) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.daemons = append(h.daemons, d)
	select {
	case h.newsLocked() <- struct{}{}:
	default: // it is told already
	}
}

// newsLocked tells that there are daemons.
func (h *Hook) newsLocked() chan struct{} {
	if h.news == nil {
		h.news = make(chan struct{}, 1)
	}
	return h.news
}

// serveMPS waits for the ends of the pod's daemons as long as the pod lives.
func (h *Hook) serveMPS(ctx context.Context, pod hooks.Pod) {
	var watchers sync.WaitGroup
	defer watchers.Wait()
	h.mu.Lock()
	news := h.newsLocked()
	h.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-news:
		}
		h.mu.Lock()
		started := h.daemons
		h.daemons = nil
		h.mu.Unlock()
		for _, d := range started {
			watchers.Go(func() {
				select {
				case <-ctx.Done():
				case <-d.seat.Started.Done():
					h.lost(ctx, pod, d)
				}
			})
		}
	}
}

// lost tells the containers whose daemon has ended, unless it was stopped. Their
// programs get errors from CUDA, or none as long as its server lives; those that
// start now run without MPS and its limits. So by default they are killed, and
// start again, if that is their policy, with a daemon.
func (h *Hook) lost(ctx context.Context, pod hooks.Pod, d daemon) {
	ids := h.MPS.Lost(d.owner, d.seat.Daemon)
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	e := MPSEvent{
		Daemon: d.seat.Daemon.PID, Status: d.seat.Started.Exit().Status, Devices: d.devices,
		Containers: ids, Action: "report", At: time.Now(),
	}
	if h.KillWithMPS {
		e.Action = "kill"
	}
	text := fmt.Sprintf("the pod's MPS daemon (process %d, on %s) has ended with status %d: what runs has lost its GPU, and what starts has no limits; action: %s",
		e.Daemon, strings.Join(e.Devices, ","), e.Status, e.Action)
	log.L.WithField("owner", d.owner.String()).Warn(text)
	for _, id := range ids {
		pod.Note(id, text)
	}
	pod.Tell(ids[0], hooks.Event{Topic: MPSTopic, TypeURL: MPSTypeURL, Value: e.Encode()})
	for _, id := range ids {
		if !h.KillWithMPS {
			break
		}
		if err := pod.Kill(ctx, id); err != nil {
			log.L.WithError(err).WithField("container", id).Warn("a container that has lost its MPS daemon is not killed")
		}
	}
}
