// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

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
	if err := p.Box("c", "exit 0").TryCreate(); err == nil || !errdefs.IsUnavailable(err) {
		t.Errorf("one more container: %v", err)
	}
	if !refused() {
		t.Error("the machine goes on, because a container was refused")
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

// switched is a machine that can be stopped, or not let go on.
type switched struct {
	*fakeMachine
	stopped bool
	broken  error
}

func (m *switched) Pause(context.Context) error {
	m.stopped = true
	return nil
}

func (m *switched) Resume(context.Context) error { return m.broken }

// A machine is not stopped while a container in it is being made, and one that
// cannot be let go on is ended.
func TestPauseMeets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &switched{fakeMachine: deaf(), broken: errors.New("no answer")}
		g, err := connect(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		defer g.close()
		g.newCgroup("a")
		g.demand("a", &demand{})
		g.newCgroup("b")
		if err := g.froze(t.Context(), "a"); err != nil || m.stopped {
			t.Errorf("stopped %v, %v, while a container is made", m.stopped, err)
		}
		g.demand("b", &demand{isSandbox: true})
		if err := g.froze(t.Context(), "a"); err != nil || !m.stopped {
			t.Errorf("stopped %v, %v, with a sandbox beside it", m.stopped, err)
		}
		if err := g.wake(t.Context()); err != nil || !g.isDead() || !strings.Contains(m.Err().Error(), "no answer") {
			t.Errorf("dead %v: %v, %v", g.isDead(), err, m.Err())
		}
	})
}
