// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// rig is a machine with a ledger.
type rig struct {
	testing.TB
	run, state string
	boot       string
	driver     wire.Driver
	program    string   // the helper, or one that dies
	giveUp     bool     // sweeps give up what is idle
	env        []string // besides the state
}

func newRig(t testing.TB, s fakenvml.State) *rig {
	r := &rig{TB: t, run: t.TempDir(), boot: "b00t", driver: wire.Driver{Version: "570.133.20", Load: "1"}, program: helper}
	r.state = filepath.Join(r.run, "state")
	r.write(s)
	return r
}

func (r *rig) write(s fakenvml.State) {
	r.Helper()
	if err := s.Write(r.state); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) read() fakenvml.State {
	r.Helper()
	s, err := fakenvml.Read(r.state)
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// me is an owner that lives, gone one whose pid another process has by now.
func (r *rig) me(id string) *wire.Owner {
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		r.Fatal(err)
	}
	start, err := strconv.ParseUint(strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))[19], 10, 64)
	if err != nil {
		r.Fatal(err)
	}
	return &wire.Owner{Namespace: "ns", Container: id, Group: "g-" + id, PID: os.Getpid(), StartTime: start}
}

func (r *rig) gone(id string) *wire.Owner {
	o := r.me(id)
	o.StartTime--
	return o
}

// request is one of an owner that is a container, which is its tenant from the first acquire on.
func (r *rig) request(o *wire.Owner, asks ...wire.MIGAsk) *wire.MIGRequest {
	r.Helper()
	q := &wire.MIGRequest{Run: r.run, BootID: r.boot, Driver: r.driver, TimeoutMS: 10_000, Owner: o, Asks: asks, ShareForeign: true}
	q.GiveUpIdle = r.giveUp && o == nil
	if o != nil {
		q.For = o.Container
	}
	if len(asks) > 0 {
		r.tenant(o, o.Container)
	}
	return q
}

// tenant has a container use what an owner has.
func (r *rig) tenant(o *wire.Owner, container string) *ledger.Tenant {
	r.Helper()
	t := &ledger.Tenant{Namespace: o.Namespace, Container: container, Group: o.Group, Pod: o.Pod, BootID: r.boot, PID: o.PID, StartTime: o.StartTime}
	if err := t.Write(r.run); err != nil {
		r.Fatal(err)
	}
	return t
}

// moveOut is what a release is: the owner has no tenant any more.
func (r *rig) moveOut(o *wire.Owner) {
	r.Helper()
	all, err := ledger.Tenants(r.run)
	if err != nil {
		r.Fatal(err)
	}
	for _, t := range all {
		if t.Of(*o) && o.Pod == "" {
			if err := t.Remove(r.run); err != nil {
				r.Fatal(err)
			}
		}
	}
}

// ask runs the helper; code is its exit status, -1 if a signal ended it.
func (r *rig) ask(word string, q *wire.MIGRequest) (stdout []byte, failed *wire.Error, code int) {
	r.Helper()
	if word == "release" {
		r.moveOut(q.Owner)
	}
	in, err := json.Marshal(q)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, r.program, "mig", word, "--library", library)
	cmd.Env, cmd.Dir = append([]string{"BERTH_FAKE_NVML=" + r.state}, r.env...), "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		r.Fatal(err)
	}
	if ctx.Err() != nil {
		r.Fatalf("%s: %v", word, ctx.Err())
	}
	code = cmd.ProcessState.ExitCode()
	failed = wire.DecodeError(stderr.Bytes())
	if code < 0 {
		return nil, nil, code
	}
	if code == 2 || code == 1 && failed == nil || code == 0 && stderr.Len() > 0 {
		r.Fatalf("%s: exit status %d: %s", word, code, &stderr)
	}
	return out.Bytes(), failed, code
}

// acquire must succeed.
func (r *rig) acquire(q *wire.MIGRequest) []wire.Slice {
	r.Helper()
	out, failed, code := r.ask("acquire", q)
	if code != 0 {
		r.Fatalf("exit status %d, %v", code, failed)
	}
	want := 0
	for _, a := range q.Asks {
		want += a.Count
	}
	a, err := wire.DecodeMIGAcquired(out, want)
	if err != nil {
		r.Fatal(err)
	}
	return a.Slices
}

// report is of release or sweep, which must succeed: what was done, by place.
func (r *rig) report(word string, q *wire.MIGRequest) (deeds []wire.Deed, report *wire.MIGReport) {
	r.Helper()
	out, failed, code := r.ask(word, q)
	if code != 0 {
		r.Fatalf("%s: exit status %d, %v", word, code, failed)
	}
	report, err := wire.DecodeMIGReport(out)
	if err != nil {
		r.Fatal(err)
	}
	for _, a := range report.Actions {
		deeds = append(deeds, a.Did)
	}
	return deeds, report
}

// records are the files of the ledger, with what is left of writing them.
func (r *rig) records() (out []string) {
	r.Helper()
	paths, err := filepath.Glob(filepath.Join(r.run, "gpu/mig/*/*"))
	hidden, hiddenErr := filepath.Glob(filepath.Join(r.run, "gpu/mig/*/.*"))
	if err := errors.Join(err, hiddenErr); err != nil {
		r.Fatal(err)
	}
	for _, path := range slices.Concat(paths, slices.DeleteFunc(hidden, func(h string) bool { return slices.Contains(paths, h) })) {
		if base := filepath.Base(path); base != "lock" && base != "owner" {
			out = append(out, path)
		}
	}
	return out
}

// sliced is a machine in MIG mode.
func sliced(model fakenvml.Model, n int) fakenvml.State {
	s := fakenvml.Machine(model, n)
	for i := range s.GPUs {
		s.GPUs[i].MIG, s.GPUs[i].Pending = true, true
	}
	return s
}

func ask1g(n int) wire.MIGAsk { return wire.MIGAsk{Profile: "1g.18gb", Count: n} }

func TestAcquireAndRelease(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	before := r.read()
	made := r.acquire(r.request(r.me("a"), wire.MIGAsk{Profile: "3g.71gb", Count: 1}, ask1g(2), wire.MIGAsk{Memory: 20 << 30, Count: 1}))
	taken := make(map[string]wire.Slice)
	for _, s := range made {
		taken[s.UUID] = s
	}
	n := 0
	for i, g := range r.read().GPUs {
		for _, in := range g.Instances {
			n++
			s, ok := taken[in.Compute[0].UUID]
			if !ok || len(in.Compute) != 1 || s.GI != in.ID || s.CI != in.Compute[0].ID || s.Place.Start != in.Start || s.BusID != g.BusID || s.GPU != g.UUID || s.Index != i || s.Minor != g.Minor {
				t.Errorf("the machine has %+v, the answer is %+v", in, s)
			}
		}
	}
	if n != 4 || len(taken) != 4 || len(r.records()) != 4 {
		t.Errorf("%d instances, %d slices, records %v", n, len(taken), r.records())
	}
	if made[0].Profile != "3g.71gb" || made[1].Profile != "1g.18gb" || made[2].Profile != "1g.18gb" || made[3].Place.Size < 2 {
		t.Errorf("not in the order of the asks: %+v", made)
	}
	if deeds, _ := r.report("release", r.request(r.me("b"))); len(deeds) != 0 {
		t.Errorf("another's release did %v", deeds)
	}
	if deeds, _ := r.report("release", r.request(r.me("a"))); !reflect.DeepEqual(deeds, []wire.Deed{wire.Destroyed, wire.Destroyed, wire.Destroyed, wire.Destroyed}) {
		t.Errorf("release did %v", deeds)
	}
	if after := r.read(); !reflect.DeepEqual(after, before) || len(r.records()) != 0 {
		t.Errorf("left %+v and %v", after, r.records())
	}
	if deeds, _ := r.report("release", r.request(r.me("a"))); len(deeds) != 0 {
		t.Errorf("the second release did %v", deeds)
	}
}
