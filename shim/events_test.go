// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"testing"
	"time"

	"berth/sandbox"
)

// A notice goes to containerd as it is, between events of its own.
func TestNoticeIsPassedOn(t *testing.T) {
	x := newExchange(t)
	x.start()
	p := x.publisher()
	tell := sink(p)
	tell(sandbox.Event{Kind: sandbox.TaskStart, Container: "a"})
	tell(sandbox.Event{Kind: sandbox.Told, Notice: &sandbox.Notice{Topic: "/berth/gpu/xid", Type: "berth.gpu.v1.Xid", Value: []byte{0x18, 79}}})
	tell(sandbox.Event{Kind: sandbox.TaskOOM, Container: "a"})
	if err := closeWithin(t, p, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.got) != 3 {
		t.Fatalf("came: %v", x.got)
	}
	e := x.got[1]
	if e.GetTopic() != "/berth/gpu/xid" || e.GetNamespace() != "ns" || e.GetTimestamp().AsTime().IsZero() ||
		e.GetEvent().GetTypeUrl() != "berth.gpu.v1.Xid" || string(e.GetEvent().GetValue()) != "\x18O" {
		t.Errorf("envelope %v", e)
	}
}
