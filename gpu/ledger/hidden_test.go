// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"berth/gpu/nvml"
)

// runFrom names the folder for the part of a test that runs in a pid namespace of its own.
const runFrom = "BERTH_TEST_RUN"

// Whether a tenant lives cannot be told from a pid namespace where its shim's pid is nobody's, or
// another's: it is kept, by a sweep and by Prune, and what is done says why.
func TestTenantOfAnotherPIDNamespace(t *testing.T) {
	owner := nvml.Owner{Namespace: "ns", Container: "c", Group: "g", PID: 1, StartTime: 1}
	if run := os.Getenv(runFrom); run != "" {
		ready := record(Ready, 7)
		v := Judge(ready, []*Record{ready}, []Live{{GI: *ready.GI, Profile: ready.Profile, Place: ready.Place, MIG: []string{ready.MIG}}}, Now{BootID: ready.BootID, Driver: ready.Driver, Life: func(nvml.Owner) Life {
			life, _ := OwnerLife(run, boot, owner, "")
			return life
		}})
		if v.Deed != nvml.Kept || !strings.Contains(v.Why, "pid namespace") {
			t.Errorf("the verdict is %+v", v)
		}
		if life, who := OwnerLife(run, "another", owner, ""); life != Gone {
			t.Errorf("after a boot: %q of %+v", life, who)
		}
		if err := Prune(run, boot); err != nil {
			t.Error(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root, to make a pid namespace")
	}
	run := t.TempDir()
	shim, started := child(t)
	if err := (&Tenant{Namespace: "ns", Container: "c", Group: "g", BootID: boot, PID: shim.Process.Pid, StartTime: started}).Write(run); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-fp", "--mount-proc", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), runFrom+"="+run)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("from another pid namespace: %v\n%s", err, out)
	}
	if life, _ := OwnerLife(run, boot, owner, ""); life != Served {
		t.Errorf("from its own: %q", life)
	}
}
