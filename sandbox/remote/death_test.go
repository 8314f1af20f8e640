// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/process"
	"berth/process/oci"
	"berth/sandbox"
	"berth/sandbox/runtimetest"
)

// When the machine dies all that was in it has exited, in order and at once;
// and every container can be asked for and deleted. The pod gets no other
// machine before that.
func TestDeath(t *testing.T) {
	h := newGuestHost(t)
	p := runtimetest.NewPod(t, h.Host)
	a, b := p.Box("a", "sleep 1000").Run(), p.Box("b", "sleep 1000").Run()
	a.Exec("e", "sleep 1000", process.Stdio{})
	created := p.Box("c", "sleep 1000").Create()
	r, err := h.rt.life.of(a.ID)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{a.ID, b.ID, created.ID}
	t.Cleanup(func() { killAlone(t, h, ids) })

	began := time.Now()
	if err := unix.Kill(r.machine.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, box := range []*runtimetest.Box{a, b, created} {
		if exit := box.Wait(""); exit.Status != 137 {
			t.Errorf("%s: exit %+v", box.ID, exit)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the exits were told after %v", took)
	}
	if err := p.Box("d", "true").TryCreate(); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "the VM of this pod has ended") {
		t.Errorf("create in a pod whose VM has ended: %v", err)
	}
	for _, box := range []*runtimetest.Box{a, b, created} {
		if st, err := box.C.Status(""); err != nil || st.State != sandbox.Stopped {
			t.Errorf("%s: %+v, %v", box.ID, st, err)
		}
		box.Delete("")
	}
	a.Expect("create", "start", "added:e", "started:e", "exit:e=137", "exit=137", "delete")
	b.Expect("create", "start", "exit=137", "delete")
	created.Expect("create", "exit=137", "delete")

	again := p.Box("again", "exit 3").Run()
	if exit := again.Wait(""); exit.Status != 3 {
		t.Errorf("in the next machine: %+v", exit)
	}
	again.Delete("")
}

// killAlone ends what an agent that was killed has left on this kernel, where a
// machine would have taken it along.
func killAlone(t *testing.T, h *guestHost, ids []string) {
	root := filepath.Join(h.dir, "runc")
	for _, id := range ids {
		cli := &oci.CLI{Binary: h.runc, Root: root, Supervisor: h.Supervisor}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := ignoreNotFound(cli.Delete(ctx, id, true)); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// Cleanup of a container whose shim has gone needs no guest.
func TestCleanupNeedsNoGuest(t *testing.T) {
	h := newGuestHost(t)
	p := runtimetest.NewPod(t, h.Host)
	a := p.Box("a", "sleep 1000").Run()
	st, err := a.C.Status("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killAlone(t, h, []string{a.ID}) })
	d, err := sandbox.Cleanup(t.Context(), sandbox.CleanupRequest{
		ID: a.ID, Bundle: a.C.Bundle(),
		Runtime: func(configs.Runtime, string) (sandbox.Runtime, error) {
			return New(Config{Host: sandbox.ThisKernel(nil), Share: h.share}), nil
		},
	})
	if err != nil || d.Exit.Status != 137 || d.Pid != st.Pid {
		t.Errorf("clean-up: %+v, %v", d, err)
	}
	if exit := a.Wait(""); exit.Status != 137 { // the machine was killed with it
		t.Errorf("exit %+v", exit)
	}
	a.Delete("")
}
