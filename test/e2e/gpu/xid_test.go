// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/encoding/protowire"

	"berth/test/fakedriver"
)

// xidEvent is the message of gpu/xid.proto: its fields by number.
type xidEvent struct {
	text   map[int][]string
	number map[int]uint64
}

// xids subscribes to the events of Xids.
func xids(ctx context.Context, t *testing.T) func() xidEvent {
	t.Helper()
	envelopes, errs := shared.Client().Subscribe(ctx, fmt.Sprintf(`namespace==%s,topic=="/berth/gpu/xid"`, shared.ID()))
	return func() xidEvent {
		t.Helper()
		select {
		case e := <-envelopes:
			return decode(t, e, "berth.gpu.v1.Xid")
		case err := <-errs:
			t.Fatal(err)
		case <-ctx.Done():
			t.Fatal("no event of an Xid came")
		}
		return xidEvent{}
	}
}

func decode(t *testing.T, envelope *events.Envelope, typeURL string) xidEvent {
	t.Helper()
	if got := envelope.Event.GetTypeUrl(); got != typeURL {
		t.Fatalf("type %q", got)
	}
	x := xidEvent{map[int][]string{}, map[int]uint64{}}
	for b := envelope.Event.GetValue(); len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		b = b[max(n, 0):]
		switch kind {
		case protowire.BytesType:
			var value []byte
			value, n = protowire.ConsumeBytes(b)
			x.text[int(field)] = append(x.text[int(field)], string(value))
		case protowire.VarintType:
			x.number[int(field)], n = protowire.ConsumeVarint(b)
		}
		if n < 0 {
			t.Fatalf("field %d: %v", field, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return x
}

// want wants the event to be about an Xid, and these containers, known by how.
func (x xidEvent) want(t *testing.T, number uint64, g fakedriver.GPU, how, action string, ids ...string) {
	t.Helper()
	if x.number[3] != number || !slices.Equal(x.text[1], []string{g.UUID}) || !slices.Equal(x.text[2], []string{g.BusID}) ||
		!slices.Equal(x.text[8], ids) || !slices.Equal(x.text[9], []string{how}) || !slices.Equal(x.text[13], []string{action}) {
		t.Errorf("event %v %v; want Xid %d of %s, containers %q by %s: %s", x.text, x.number, number, g.BusID, ids, how, action)
	}
}

// report writes a line of the driver's into the kernel's log.
func report(t *testing.T, log *os.File, seq int, g fakedriver.GPU, text string) {
	t.Helper()
	if _, err := fmt.Fprintf(log, "3,%d,1000,-;NVRM: Xid (PCI:%s): %s\n", seq, strings.TrimSuffix(g.BusID, ".0"), text); err != nil {
		t.Fatal(err)
	}
}

// notes are what the record of a container says of its life.
func notes(t *testing.T, id string) []string {
	t.Helper()
	var record struct {
		Notes []string `json:"notes"`
	}
	file := filepath.Join(shared.Dir(), "state/io.containerd.runtime.v2.task", shared.ID(), id, "berth.json")
	if err := json.Unmarshal(must(os.ReadFile(file))(t), &record); err != nil {
		t.Fatal(err)
	}
	return record.Notes
}

// TestXid reports Xids of a process and of a GPU, and wants the right container
// in the event and on its record. Each shim reads a log of its own here; on a
// machine all read the same.
func TestXid(t *testing.T) {
	ctx := testContext(t)
	next := xids(ctx, t)
	logA := home.use(t)
	a := start(ctx, t, request{id: "xid-a", gpu: "index:0"})
	logB := home.use(t)
	start(ctx, t, request{id: "xid-b", gpu: "2"})

	report(t, logA, 100, home.GPUs[0], fmt.Sprintf("31, pid=%d, name=sleep, Ch 00000008, MMU Fault", a.task.Pid()))
	x := next()
	x.want(t, 31, home.GPUs[0], "pid", "report", "xid-a")
	if x.number[6] != uint64(a.task.Pid()) || x.number[15] != 100 || !slices.Equal(x.text[7], []string{"sleep"}) {
		t.Errorf("event %v %v", x.text, x.number)
	}
	// The process is not its own: the GPU's holder is told.
	report(t, logB, 101, home.GPUs[1], "13, pid=1, name=init, Graphics Exception")
	next().want(t, 13, home.GPUs[1], "gpu", "report", "xid-b")
	for id, want := range map[string]string{"xid-a": "Xid 31", "xid-b": "Xid 13"} {
		if got := notes(t, id); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("notes of %s: %q", id, got)
		}
	}
}

// TestXidKill has the policy kill who is hit.
func TestXidKill(t *testing.T) {
	ctx := testContext(t)
	next := xids(ctx, t)
	log := home.use(t, "[xid]", `kill = ["31"]`)
	c := start(ctx, t, request{gpu: "index:0"})
	report(t, log, 1, home.GPUs[0], fmt.Sprintf("31, pid=%d, name=sleep, MMU Fault", c.task.Pid()))
	next().want(t, 31, home.GPUs[0], "pid", "kill", c.ID())
	if code := c.wait(ctx, t); code != 137 {
		t.Errorf("status %d, want 137", code)
	}
	if got := notes(t, c.ID()); len(got) != 1 || !strings.Contains(got[0], "Xid 31") {
		t.Errorf("notes %q", got)
	}
}

// TestXidBar has the policy keep new containers from a GPU that needs a reset.
// The others go on.
func TestXidBar(t *testing.T) {
	m := another(t, fakedriver.Config{GPUs: 2})
	ctx := testContext(t)
	next := xids(ctx, t)
	log := m.use(t)
	c := start(ctx, t, request{id: "bar-first", gpu: "index:0"})
	report(t, log, 1, m.GPUs[0], "79, GPU has fallen off the bus.")
	next().want(t, 79, m.GPUs[0], "gpu", "bar", c.ID())
	refusal{request{id: "bar-second", gpu: "index:0"}, errdefs.IsFailedPrecondition, []string{m.GPUs[0].BusID, "is barred", "Xid 79", "berth gpu clear"}}.check(t)
	for id, gpu := range map[string]string{"bar-other": "index:1", "bar-count": "1"} {
		wantDevices(t, look(t, start(ctx, t, request{id: id, gpu: gpu})), append(m.control(), gpuNode(m.GPUs[1]))...)
	}
}
