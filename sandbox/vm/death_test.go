// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every way in which a machine can die is told with its reason, and nothing of
// it is left (TestMain, rig.boot).
func TestDeath(t *testing.T) {
	signal := func(pid int, sig unix.Signal) {
		if err := unix.Kill(pid, sig); err != nil {
			t.Error(err)
		}
	}
	for name, c := range map[string]struct {
		share   bool
		kill    func(g *guestOf)
		reason  Reason
		detail  string
		console string // something of it in the error
	}{
		"QEMU is killed":                  {false, func(g *guestOf) { signal(g.Pid(), unix.SIGKILL) }, VMMEnded, "SIGKILL", ""},
		"virtiofsd is killed":             {true, func(g *guestOf) { signal(g.share.Pid(), unix.SIGKILL) }, ShareEnded, "SIGKILL", ""},
		"QEMU is killed beside virtiofsd": {true, func(g *guestOf) { signal(g.Pid(), unix.SIGKILL) }, VMMEnded, "SIGKILL", ""},
		"the guest panics":                {false, func(g *guestOf) { g.tell("write", "/proc/sysrq-trigger", "c") }, Reset, "", "Kernel panic - not syncing: sysrq triggered crash"},
		"the agent ends":                  {false, func(g *guestOf) { g.tell("exit") }, Reset, "", "Attempted to kill init"},
		"the guest reboots":               {false, func(g *guestOf) { g.tell("reboot") }, Reset, "", "Restarting system"},
		"the host hangs up":               {false, func(g *guestOf) { _ = g.Transport().Close() }, PoweredOff, "", ""},
		"the host hangs up on a share":    {true, func(g *guestOf) { _ = g.Transport().Close() }, PoweredOff, "", ""},
		"a kill":                          {true, func(g *guestOf) { g.Kill("the test wants it") }, Killed, "the test wants it", ""},
		"a kill of a deaf guest": {true, func(g *guestOf) {
			g.tell("deaf")
			g.Kill("it does not answer")
		}, Killed, "it does not answer", ""},
		"a kill of a stopped QEMU": {true, func(g *guestOf) {
			signal(g.Pid(), unix.SIGSTOP)
			g.Kill("it hangs")
		}, Killed, "it hangs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			conf := r.config()
			if c.share {
				conf.Share = shared(t)
			}
			g := r.up(conf)
			begin := time.Now()
			c.kill(g)
			exit := r.ended(g.Machine)
			t.Logf("dead after %v: %v", time.Since(begin), exit)
			if exit.Reason != c.reason || !strings.Contains(exit.Detail, c.detail) {
				t.Errorf("the machine ended because %q (%s), want %q (%s)", exit.Reason, exit.Detail, c.reason, c.detail)
			}
			if !strings.Contains(exit.Error(), c.console) {
				t.Errorf("the error is %q, want the console with %q in it", exit, c.console)
			}
		})
	}
}

func TestKillOfAPausedMachine(t *testing.T) {
	r := newRig(t)
	g := r.up(r.config())
	if err := g.Pause(r.ctx); err != nil {
		t.Fatal(err)
	}
	g.Kill("enough")
	if exit := r.ended(g.Machine); exit.Reason != Killed {
		t.Errorf("the machine ended because %v", exit)
	}
}

func TestVerbsOfADeadMachine(t *testing.T) {
	r := newRig(t)
	c := r.config()
	c.Cgroup = testGroup(t)
	g := r.up(c)
	g.Kill("enough")
	r.ended(g.Machine)
	for range 2 {
		if err := g.Close(r.ctx); err != nil {
			t.Error(err)
		}
	}
	if err := g.Pause(r.ctx); err == nil {
		t.Error("a dead machine was paused")
	}
	if err := g.Balloon(r.ctx, 128); err == nil {
		t.Error("a dead machine's memory was resized")
	}
}
