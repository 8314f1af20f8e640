// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// guestSlowness is how much longer a test may take in an emulated machine. Only
// a hang meets either limit.
const guestSlowness = 4

// bootTime is what a machine may take to boot on a busy host before a stress test
// begins.
const bootTime = 20 * time.Second

// guest is how a case is run against the vm shim.
type guest struct {
	image string
	front string   // guestspec, which goes before the shim; none if empty
	args  []string // more for the test binary
}

// upstreamGuest is for an upstream test; nil if it is not run in machines.
func (t *table) upstreamGuest(p *programs, test upstreamTest, timeout time.Duration) *guest {
	if t.options.vm == "" || notForGuests("upstream "+test.suite+"/"+test.test) != "" {
		return nil
	}
	if test.suite == "stress" { // which fills what time there is, and is skipped if none is left
		timeout += bootTime
	} else {
		timeout *= guestSlowness
	}
	return &guest{image: t.options.guest, front: p.guestspec, args: []string{"-test.timeout", timeout.String()}}
}

// ownGuest is for a test of the project's own; nil if it is not run in machines.
func (t *table) ownGuest(name string) *guest {
	if t.options.vm == "" || notForGuests(name) != "" {
		return nil
	}
	return &guest{image: t.options.guest, args: []string{"-guest", t.options.guest, "-test.timeout", (ownLimit * guestSlowness).String()}}
}

// install copies the shim, and what goes before it, and adds to the environment
// what it finds its machines by.
func (g *guest) install(dir, bin, shim string, env []string) ([]string, error) {
	private := filepath.Join(bin, filepath.Base(shim))
	if g.front == "" {
		return env, copyProgram(shim, private)
	}
	behind := filepath.Join(bin, "behind")
	if err := os.Mkdir(behind, 0o755); err != nil {
		return nil, err
	}
	if err := copyProgram(shim, filepath.Join(behind, filepath.Base(shim))); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "vm.toml")
	text := fmt.Sprintf("accel = [\"kvm\", \"tcg\"]\nimage = %q\nrun_dir = %q\nmemory_mib = 256\n", g.image, filepath.Join(dir, "vm"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return append(env, "BERTH_VM_CONFIG="+config), copyProgram(g.front, private)
}

// vmProblem says why the row makes the run a failure for the vm shim; "" if it
// does not.
func (r row) vmProblem() string {
	reason, listed := r.vmReason()
	switch {
	case listed && r.vm == pass:
		return "passes, and is listed as what a VM cannot do: " + reason
	case listed:
		return ""
	case r.vm == missing:
		return "did not run"
	case r.own && r.vm != pass && r.vm != r.shim:
		return "must pass, or be listed with the reason"
	case !r.own && r.vm < r.shim:
		return "the shim for processes does better"
	}
	return ""
}

// vmNote says why a row is not passed in a machine.
func (r row) vmNote() string {
	reason, _ := r.vmReason()
	return reason
}

func (r row) vmReason() (string, bool) {
	if reason := notForGuests(r.name); reason != "" {
		return reason, true
	}
	reason, ok := failsInGuests[r.name]
	return reason, ok
}

// notForGuests says why a test is not run in machines, by its name or the
// beginning of it; "" if it is.
func notForGuests(name string) string {
	for prefix, reason := range leftOutInGuests {
		if name == prefix || strings.HasPrefix(name, prefix+"/") {
			return reason
		}
	}
	return ""
}

const (
	perPod       = "a vm shim has one pod, and serves no node"
	guestRuntime = "the runtime is the guest's own, no fake one"
	ownNetwork   = "listens in the network namespace of the host, where no VM is"
)

// leftOutInGuests names the tests that make no sense for a VM.
var leftOutInGuests = map[string]string{
	"own InitDeadBeforeCreateReturns":  guestRuntime,
	"own ExecDeadBeforeRuntimeReturns": guestRuntime,
	"own ExecDeadWhileRuntimeLingers":  guestRuntime,
	"own HungRuntimeSparesNeighbours":  guestRuntime,
	"own HungCallSparesItself":         guestRuntime,
	"own ClientLeaves":                 guestRuntime,
	"own ClientLeavesDelete":           guestRuntime,
	"own NodeShimAwaitsTheAnnounced":   perPod,
	"own NodeShimForgetsWhatIsGivenUp": perPod,
	"own NodeShimStaysForOthers":       perPod,
	"own NodeDeleteBesideOthers":       perPod,
	"own NodeShimDies":                 perPod,
	"own SharedPIDNamespace":           "looks for a process of the container's on the host; in integration, pods have a common PID namespace",
	"upstream net/OutboundTCP":         ownNetwork,
	"upstream net/OutboundUDP":         ownNetwork,
}

// failsInGuests says why a test that is run cannot pass in a machine.
var failsInGuests = map[string]string{}
