// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// ls is what ls says of the GPUs.
func (r *rig) ls(q *wire.MIGRequest) []wire.MIGGPU {
	r.Helper()
	out, failed, code := r.ask("ls", q)
	if code != 0 {
		r.Fatalf("exit status %d, %v", code, failed)
	}
	l, err := wire.DecodeMIGList(out)
	if err != nil {
		r.Fatal(err)
	}
	return l.GPUs
}

// Of GPUs that are lost the records tell which they are, and whether the owners of what is on them live.
func TestListOfLostGPUs(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.acquire(r.request(r.me("a"), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
	r.acquire(r.request(r.gone("b"), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
	s := r.read()
	s.GPUs[0].Lost, s.GPUs[1].Lost = true, true
	r.write(s)
	life := map[string]string{}
	for _, g := range r.ls(r.request(nil)) {
		for _, in := range g.Instances {
			life[g.UUID] += in.Owner.Container + " " + in.Life
		}
	}
	if len(life) != 2 || life[s.GPUs[0].UUID] != "a "+string(ledger.Served) || life[s.GPUs[1].UUID] != "b "+string(ledger.Gone) {
		t.Errorf("told are %q", life)
	}
}

// There is no room on a GPU that is left alone, whoever has it; the reason is told as an acquire tells it.
func TestRoomOfAGPULeftAlone(t *testing.T) {
	r := newRig(t, shared())
	room := func(g wire.MIGGPU) (n int) {
		for _, f := range g.Fits {
			n += f.Count
		}
		return n
	}
	q := r.request(nil)
	if g := r.ls(q)[0]; g.LeftAlone != "" || room(g) == 0 {
		t.Errorf("where foreigners are no reason it is left alone: %q, %+v", g.LeftAlone, g.Fits)
	}
	q.ShareForeign = false
	foreign := r.ls(q)[0]
	if room(foreign) != 0 || len(foreign.Fits) == 0 || len(foreign.Instances) != 2 {
		t.Errorf("with a foreigner's instances there is room: %+v", foreign)
	}
	a := r.request(r.me("a"), ask1g(1))
	a.ShareForeign = false
	if _, failed, _ := r.ask("acquire", a); failed == nil || foreign.LeftAlone == "" || !strings.Contains(failed.Message, foreign.LeftAlone) {
		t.Errorf("ls says %q, acquire %v", foreign.LeftAlone, failed)
	}
	dir := filepath.Join(ledger.Root(r.run), foreign.BusID)
	err := os.MkdirAll(dir, 0o700)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "owner"), []byte("a DRA driver"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if g := r.ls(r.request(nil))[0]; room(g) != 0 || !strings.Contains(g.LeftAlone, "held by a DRA driver") {
		t.Errorf("held, and there is room: %q, %+v", g.LeftAlone, g.Fits)
	}
}
