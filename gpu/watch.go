// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/log"

	"berth/hooks"
)

// Serve watches over the GPUs of the pod as long as it lives.
func (h *Hook) Serve(ctx context.Context, pod hooks.Pod) {
	var work sync.WaitGroup
	work.Go(func() { h.serveXids(ctx, pod) })
	h.serveMPS(ctx, pod)
	work.Wait()
}

// serveXids watches the kernel's log for Xids. It begins with the first
// container that holds a GPU: before that none can be the cause of one.
func (h *Hook) serveXids(ctx context.Context, pod hooks.Pod) {
	if h.Kmsg == "" {
		return
	}
	h.mu.Lock()
	first := h.firstLocked()
	h.mu.Unlock()
	select {
	case <-ctx.Done():
		return
	case <-first:
	}
	kmsg, err := OpenKmsg(h.Kmsg)
	if err == nil {
		err = kmsg.Run(ctx, func(x Xid) { h.xid(ctx, pod, x) })
	}
	if err != nil {
		log.L.WithError(err).Warn("the health of GPUs is not watched")
	}
}

// firstLocked is closed once there is a holder.
func (h *Hook) firstLocked() chan struct{} {
	if h.first == nil {
		h.first = make(chan struct{})
	}
	return h.first
}

func (h *Hook) wakeLocked() {
	first := h.firstLocked()
	select {
	case <-first:
	default:
		close(first)
	}
}

// xid tells of an Xid that has hit containers of this pod, and does what the
// policy says. Every shim with a GPU container sees every Xid: barring a GPU
// twice is as good as once.
func (h *Hook) xid(ctx context.Context, pod hooks.Pod, x Xid) {
	action := h.Xids.Actions(x)
	if action == (Action{}) {
		return
	}
	if action.Bar {
		if err := SetBar(h.Roots, NewBar(x)); err != nil {
			log.L.WithError(err).Warn("a GPU is not barred")
		}
	}
	ids, how := Attribute(x, h.heldNow(pod))
	if how != ByPid && x.Class() == ClassApp && h.elsewhere(x.Pid) {
		ids = nil
	}
	event := XidEvent{Xid: x, UUID: h.uuid(x.BusID), Containers: ids, How: how, Action: action}
	for _, id := range ids {
		pod.Note(id, fmt.Sprintf("Xid %d (%s) on GPU %s, by %s: %s", x.Number, x.Class(), x.BusID, how, x.Message))
	}
	if len(ids) > 0 {
		pod.Tell(ids[0], hooks.Event{Topic: XidTopic, TypeURL: XidTypeURL, Value: event.Encode()})
	}
	if how == ByGPU && x.Class() == ClassApp {
		return // a fault of one process, and nobody knows whose
	}
	for _, id := range ids {
		if !action.Kill {
			break
		}
		if err := pod.Kill(ctx, id); err != nil {
			log.L.WithError(err).WithField("container", id).Warn("a container hit by an Xid is not killed")
		}
	}
}

// heldNow are the containers of this pod that hold GPUs.
func (h *Hook) heldNow(pod hooks.Pod) []Holder {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Holder
	for id, c := range h.holders {
		holder := Holder{ID: id, HasPid: func(pid int) bool { return pod.Has(id, pid) }}
		for _, d := range c.Devices {
			if d.MIG != nil {
				holder.Instances = append(holder.Instances, HeldInstance{BusID: d.BusID, GI: d.MIG.GI, CI: d.MIG.CI})
			} else {
				holder.BusIDs = append(holder.BusIDs, d.BusID)
			}
		}
		out = append(out, holder)
	}
	return out
}

func (h *Hook) uuid(busID string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.holders {
		for _, d := range c.Devices {
			if d.BusID == busID {
				return d.UUID
			}
		}
	}
	return ""
}
