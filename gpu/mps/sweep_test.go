// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"os"
	"path/filepath"
	"testing"

	"berth/process"
	"berth/process/cgroup"
)

func (r *rig) sweepOne(t *testing.T, dry bool) Action {
	t.Helper()
	done := r.Sweep(t.Context(), dry)
	if len(done) != 1 {
		t.Fatalf("actions %+v, want one", done)
	}
	return done[0]
}

// disown has a record's shim be dead.
func (r *rig) disown(t *testing.T) {
	t.Helper()
	rec := r.record(t)
	rec.Shim.StartTime--
	if err := rec.write(filepath.Join(r.Dir, owner.key())); err != nil {
		t.Fatal(err)
	}
}

// TestSweep keeps a daemon as long as its shim lives, or a container does without
// its shim.
func TestSweep(t *testing.T) {
	r := newRig(t)
	if done := r.Sweep(t.Context(), false); done != nil {
		t.Errorf("nothing is there, and it did %+v", done)
	}
	seat := r.join(t, r.request("a", "on"))
	if did := r.sweepOne(t, false); did.Did != Kept || did.Owner == nil || *did.Owner != owner || did.PID != seat.Daemon.PID {
		t.Errorf("with a shim: %+v", did)
	}
	r.disown(t)
	loc, procs, err := cgroup.Make(r.parent + "/a")
	if err != nil {
		t.Fatal(err)
	}
	up, child, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = up.Close() }()
	p, err := r.Supervisor.Start(&process.Command{
		Path: "/bin/sh", Args: append([]string{"-c", "for f; do echo 0 >$f; done; echo; exec sleep 1000", "sh"}, procs...), Files: []*os.File{nil, child},
	})
	_ = child.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if did := r.sweepOne(t, false); did.Did != Kept || !seat.Daemon.alive() {
		t.Errorf("without a shim, with a container: %+v", did)
	}
	if err := kill(t.Context(), loc); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if did := r.sweepOne(t, true); did.Did != Stopped || !seat.Daemon.alive() {
		t.Errorf("dry, without either: %+v", did)
	}
	if did := r.sweepOne(t, false); did.Did != Stopped || seat.Daemon.alive() {
		t.Errorf("without either: %+v", did)
	}
}

// TestSweepHalf has starts and stops that were cut off at each step.
func TestSweepHalf(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, r *rig, dir string){
		"nothing but the directory": func(t *testing.T, r *rig, dir string) {
			r.leave(t, "a")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"starting": func(t *testing.T, r *rig, dir string) {
			rec := r.record(t)
			rec.State, rec.Daemon = Starting, Process{}
			if err := rec.write(dir); err != nil {
				t.Fatal(err)
			}
			r.disown(t)
		},
		"stopping": func(t *testing.T, r *rig, dir string) {
			rec := r.record(t)
			rec.State, rec.Members = Stopping, nil // its shim lives
			if err := rec.write(dir); err != nil {
				t.Fatal(err)
			}
		},
		"of another boot": func(t *testing.T, r *rig, dir string) {
			rec := r.record(t)
			rec.BootID = "before"
			if err := rec.write(dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			seat := r.join(t, r.request("a", "on"))
			cut(t, r, filepath.Join(r.Dir, owner.key()))
			if did := r.sweepOne(t, false); did.Did != Stopped {
				t.Errorf("%+v", did)
			}
			ended(t, seat)
		})
	}
	t.Run("torn", func(t *testing.T) {
		r := newRig(t)
		r.join(t, r.request("a", "on"))
		path := filepath.Join(r.Dir, owner.key(), recordName)
		whole, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, whole[:40], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if did := r.sweepOne(t, false); did.Did != Failed || did.Why == "" {
			t.Errorf("%+v", did)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		r.leave(t, "a")
	})
}
