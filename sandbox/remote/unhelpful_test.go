// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agentapi"
)

// unplugged is a machine that notes which disks are taken from it.
type unplugged struct {
	*fakeMachine
	disks []string
}

func (m *unplugged) RemoveDisk(ctx context.Context, serial string) error {
	m.disks = append(m.disks, serial)
	return ctx.Err()
}

// A guest that does not answer keeps neither a container nor its disks from being
// deleted, within the time that there is.
func TestDeleteUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &unplugged{fakeMachine: mute()}
		g, err := connect(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		rt := New(Config{Share: t.TempDir() + "/share"})
		rt.life.guest, rt.life.inside["a"], rt.life.inside["other"] = g, g, g
		for i, serial := range []string{"berth1", "berth2"} {
			d, err := g.disks.take("a", diskID{ino: uint64(i)}, false)
			if err != nil {
				t.Fatal(err)
			}
			d.serial = serial
		}
		ctx, cancel := context.WithTimeout(t.Context(), undoTimeout)
		defer cancel()
		began := time.Now()
		if err := rt.Delete(ctx, "a", false); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != deleteTimeout+letGoTimeout {
			t.Errorf("it took %v", took)
		}
		if slices.Sort(m.disks); !slices.Equal(m.disks, []string{"berth1", "berth2"}) || g.disks.of("a") != nil {
			t.Errorf("taken away are %v", m.disks)
		}
		if _, err := rt.life.of("a"); !errdefs.IsNotFound(err) || g.isDead() {
			t.Errorf("the container: %v; the guest has ended: %v", err, g.isDead())
		}
		g.fail(errors.New("the test is over"))
		g.close()
	})
}

// refusing is an agent that kills nothing, and deletes nothing.
type refusing struct{ agentapi.AgentService }

func (refusing) Signal(context.Context, *agentapi.SignalRequest) (*agentapi.Empty, error) {
	return &agentapi.Empty{}, nil
}

func (refusing) Kill(context.Context, *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return &agentapi.Empty{}, nil
}

func (refusing) Delete(context.Context, *agentapi.DeleteRequest) (*agentapi.Empty, error) {
	return nil, errors.New("it is mine")
}

// A guest may refuse to delete a container once.
func TestDeleteRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := connect(t.Context(), mute())
		if err != nil {
			t.Fatal(err)
		}
		g.agent = refusing{}
		rt := New(Config{Share: t.TempDir() + "/share"})
		rt.life.guest, rt.life.inside["a"], rt.life.inside["other"] = g, g, g
		if err := rt.Delete(t.Context(), "a", false); err == nil || !strings.Contains(err.Error(), "it is mine") {
			t.Errorf("once: %v", err)
		}
		if err := rt.Delete(t.Context(), "a", false); err != nil {
			t.Errorf("again: %v", err)
		}
		rt.life.inside["unmade"] = g
		if err := rt.Delete(t.Context(), "unmade", true); err != nil {
			t.Errorf("by force: %v", err)
		}
		g.fail(errors.New("the test is over"))
		g.close()
	})
}

// A guest that says that it has killed a process, and never that it has ended, is
// ended itself; but not while its machine is stopped.
func TestKilledAndNotEnded(t *testing.T) {
	for name, kill := range map[string]func(*guestCgroup, *process.Process) error{
		"process":   func(_ *guestCgroup, p *process.Process) error { return p.Signal(unix.SIGKILL) },
		"container": func(cg *guestCgroup, _ *process.Process) error { return cg.Kill(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, err := connect(t.Context(), mute())
				if err != nil {
					t.Fatal(err)
				}
				g.agent = refusing{}
				cg := g.newCgroup("a")
				_, p, err := g.newProcess("a")
				if err != nil {
					t.Fatal(err)
				}
				if err := kill(cg, p); err != nil {
					t.Fatal(err)
				}
				g.paused.Store(true)
				time.Sleep(killedWithin + time.Second)
				if g.isDead() {
					t.Errorf("it was ended while it was stopped: %v", g.machine.Err())
				}
				g.paused.Store(false)
				<-p.Done()
				if err := g.machine.Err(); p.Exit().Status != 137 || !strings.Contains(err.Error(), "told of no end") {
					t.Errorf("exit %+v, because of: %v", p.Exit(), err)
				}
				g.close()
			})
		})
	}
}

// Of a process that was never made no end is told.
func TestKilledAndNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := connect(t.Context(), mute())
		if err != nil {
			t.Fatal(err)
		}
		g.agent = refusing{}
		cg := g.newCgroup("a")
		number, _, err := g.newProcess("a")
		if err != nil {
			t.Fatal(err)
		}
		if err := cg.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.forgetProcess(number)
		time.Sleep(2 * killedWithin)
		if g.isDead() {
			t.Errorf("the guest was ended: %v", g.machine.Err())
		}
		g.fail(errors.New("the test is over"))
		g.close()
	})
}
