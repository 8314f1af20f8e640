// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"berth/configs"
	"berth/process"
	"berth/process/oci"
	"berth/test/fakeoci"
)

// flagsOf are the arguments of the first call of a verb.
func (r *rig) flagsOf(bundle, verb string) []string {
	r.Helper()
	for _, call := range fakeoci.Calls(r, bundle) {
		if call.Verb == verb {
			return call.Args
		}
	}
	r.Fatalf("the runtime was not called for %s", verb)
	return nil
}

// wantFlag wants a flag with its value, empty for one that takes none.
func (r *rig) wantFlag(args []string, flag, value string) {
	r.Helper()
	i := slices.Index(args, flag)
	if i < 0 || value != "" && (i+1 == len(args) || args[i+1] != value) {
		r.Errorf("no %s %s in %q", flag, value, args)
	}
}

// The options of a container reach its runtime, and the owner of its pipes is theirs.
func TestOptionsReachTheRuntime(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	out := r.reading(r.fifo("out"))
	pid, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Stdio: process.Stdio{Stdout: out},
		Options: configs.Runtime{NoPivotRoot: true, NoNewKeyring: true, IOUID: 1234, IOGID: 5678}})
	if err != nil {
		t.Fatal(err)
	}
	args := r.flagsOf(bundle, "create")
	r.wantFlag(args, "--no-pivot", "")
	r.wantFlag(args, "--no-new-keyring", "")
	info, err := os.Stat(fmt.Sprintf("/proc/%d/fd/1", pid))
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 1234 || st.Gid != 5678 {
		t.Errorf("the pipe of stdout belongs to %d:%d, want 1234:5678", st.Uid, st.Gid)
	}
}

// A checkpoint goes where the options say, unless the request does, and so do criu's
// logs.
func TestWhereCheckpointsGo(t *testing.T) {
	for name, tc := range map[string]struct {
		options     configs.Runtime
		request     oci.CRIU
		image, work string
	}{
		"options": {configs.Runtime{CriuImagePath: "image", CriuWorkPath: "work"}, oci.CRIU{}, "image", "work"},
		"request": {configs.Runtime{CriuImagePath: "image", CriuWorkPath: "work"}, oci.CRIU{ImagePath: "mine", WorkPath: "log"}, "mine", "log"},
		"neither": {configs.Runtime{}, oci.CRIU{ImagePath: "mine"}, "mine", "a/work"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			bundle := r.bundle("a", "sleep", fakeoci.Plan{})
			for _, p := range []*string{&tc.options.CriuImagePath, &tc.options.CriuWorkPath,
				&tc.request.ImagePath, &tc.request.WorkPath, &tc.image, &tc.work} {
				if *p != "" {
					*p = filepath.Join(r.dir, *p)
				}
			}
			if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Options: tc.options}); err != nil {
				t.Fatal(err)
			}
			c, err := r.pod.Container("a")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Start(r.ctx(), ""); err != nil {
				t.Fatal(err)
			}
			if err := c.Checkpoint(r.ctx(), oci.CheckpointRequest{CRIU: tc.request}); err != nil {
				t.Fatal(err)
			}
			args := r.flagsOf(bundle, "checkpoint")
			r.wantFlag(args, "--image-path", tc.image)
			r.wantFlag(args, "--work-path", tc.work)
		})
	}
}

// What is restored has criu's logs where the options say.
func TestWhereRestoresLog(t *testing.T) {
	r := newRig(t)
	c := r.restored(fakeoci.Plan{})
	c.req.Options.CriuWorkPath = filepath.Join(r.dir, "work")
	if _, err := c.Start(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	r.wantFlag(r.flagsOf(c.Bundle(), "restore"), "--work-path", c.req.Options.CriuWorkPath)
}
