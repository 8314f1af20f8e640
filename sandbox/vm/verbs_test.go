// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strconv"
	"strings"
	"testing"
)

func TestPause(t *testing.T) {
	r := newRig(t)
	g := r.up(r.config())
	if err := g.Pause(r.ctx); err != nil {
		t.Fatal(err)
	}
	if got := g.status(); got != "paused" {
		t.Errorf("QEMU says that the machine is %s", got)
	}
	g.tell("read", "/proc/uptime")
	if err := g.Resume(r.ctx); err != nil {
		t.Fatal(err)
	}
	if answer := g.line(); !strings.HasPrefix(answer, "ok ") {
		t.Errorf("the guest says %q", answer)
	}
}

func (g *guestOf) status() string {
	g.Helper()
	var s struct {
		Status string `json:"status"`
	}
	if err := g.qmp.Execute(g.ctx, "query-status", nil, &s); err != nil {
		g.Fatal(err)
	}
	return s.Status
}

func TestBalloon(t *testing.T) {
	r := newRig(t)
	c := r.config()
	c.MemoryMiB = 256
	g := r.up(c)
	if got, err := g.MemoryMiB(r.ctx); err != nil || got != 256 {
		t.Fatalf("the machine has %d MiB (%v)", got, err)
	}
	full := g.free()
	if err := g.Balloon(r.ctx, 192); err != nil {
		t.Fatal(err)
	}
	for {
		if now, err := g.MemoryMiB(r.ctx); err != nil {
			t.Fatal(err)
		} else if now == 192 {
			break
		}
	}
	if now := g.free(); now > full-50<<10 {
		t.Errorf("%d KiB are free in the guest, before the balloon %d", now, full)
	}
	if err := g.Balloon(r.ctx, 64); err == nil {
		t.Error("a machine was left with 64 MiB")
	}
	// What the guest needs it takes back (deflate-on-oom): it does not die of it.
	g.do("eat", "130")
}

// free is MemFree of the guest, in KiB.
func (g *guestOf) free() int {
	g.Helper()
	for line := range strings.Lines(g.do("read", "/proc/meminfo")) {
		if f := strings.Fields(line); f[0] == "MemFree:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				g.Fatal(err)
			}
			return n
		}
	}
	g.Fatal("no MemFree")
	return 0
}
