// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/runtimetest"
)

// stoppable is a machine that can be stopped, as its agent's process.
type stoppable struct{ *fakeMachine }

func (m stoppable) Pause(context.Context) error  { return unix.Kill(m.Pid(), unix.SIGSTOP) }
func (m stoppable) Resume(context.Context) error { return unix.Kill(m.Pid(), unix.SIGCONT) }

// The machine stops with the last container that ran. Then it refuses at once
// what needs it, and can be resumed, killed and deleted.
func TestPauseMachine(t *testing.T) {
	h := newGuestHost(t)
	h.rt.cfg.PauseMachine = true
	boot := h.rt.life.boot
	h.rt.life.boot = func(ctx context.Context, r BootRequest) (Machine, error) {
		m, err := boot(ctx, r)
		if err != nil {
			return nil, err
		}
		return stoppable{m.(*fakeMachine)}, nil
	}
	p := runtimetest.NewPod(t, h.Host)
	a, b := p.Box("a", "sleep 1000").Run(), p.Box("b", "sleep 1000").Run()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func() bool {
		_, _, err := b.C.Stats(nil)
		if err != nil && (!errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "is paused")) {
			t.Errorf("statistics: %v", err)
		}
		return err != nil
	}
	do(a.C.Pause(t.Context()))
	if refused() {
		t.Error("the machine has stopped, though a container runs")
	}
	do(b.C.Pause(t.Context()))
	if !refused() {
		t.Error("the machine runs, though no container does")
	}
	do(a.C.Resume(t.Context()))
	if refused() {
		t.Error("the machine is stopped, though a container runs")
	}
	do(a.C.Pause(t.Context()))
	if !refused() {
		t.Error("the machine was stopped once only")
	}
	do(b.C.Kill(t.Context(), "", unix.SIGKILL, false))
	if exit := b.Wait(""); exit.Status != 137 {
		t.Errorf("exit %+v", exit)
	}
	b.Delete("")
	do(a.C.Kill(t.Context(), "", unix.SIGKILL, true))
	a.Wait("")
	a.Delete("")
	a.Expect("create", "start", "paused", "resumed", "paused", "exit=137", "delete")
}
