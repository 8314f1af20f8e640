// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// hostDir names the directory for the part of a test that runs in a pid namespace of its own.
const hostDir = "BERTH_TEST_MPS"

// A daemon of another pid namespace is kept by a sweep, which says why, and by all else that would
// stop it: whether somebody uses it cannot be told, and its processes have no pids to be killed by.
func TestDaemonOfAnotherPIDNamespace(t *testing.T) {
	if dir := os.Getenv(hostDir); dir != "" {
		h := &Host{Dir: dir}
		for _, dry := range []bool{true, false} {
			if done := h.Sweep(t.Context(), dry); len(done) != 1 || done[0].Did != Kept || !strings.Contains(done[0].Why, "pid namespace") {
				t.Errorf("dry %t: %+v", dry, done)
			}
		}
		if err := h.Leave(t.Context(), owner, "a", ""); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("leaving: %v", err)
		}
		return
	}
	r := newRig(t)
	seat := r.join(t, r.request("a", "on"))
	before, err := os.ReadFile(filepath.Join(r.Dir, owner.key(), recordName))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-fp", "--mount-proc", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), hostDir+"="+r.Dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("from another pid namespace: %v\n%s", err, out)
	}
	if !seat.Daemon.alive() {
		t.Error("the daemon was killed")
	}
	if err := os.WriteFile(filepath.Join(r.Dir, owner.key(), recordName), before, 0o600); err != nil { // which the leaving changed
		t.Fatal(err)
	}
	if did := r.sweepOne(t, true); did.Did != Kept || did.Why != "its containers live" {
		t.Errorf("from its own: %+v", did)
	}
	r.leave(t, "a")
}
