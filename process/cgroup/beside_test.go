// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestBeside(t *testing.T) {
	for in, want := range map[string]string{
		"/kubepods/burstable/pod1/abc":           "/kubepods/burstable/pod1/x",
		"kubepods-pod1.slice:cri-containerd:abc": "/kubepods.slice/kubepods-pod1.slice/x",
		"/abc":                                   "/x",
		"":                                       "x",
		"own/abc":                                "own/x",
		"/a/../../b":                             "",
	} {
		got, err := Beside(in, "x")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

// What joins a cgroup that was made is found by its record, and killed.
func TestMake(t *testing.T) {
	path := fmt.Sprintf("/berth-make-%d", os.Getpid())
	loc, procs, err := Make(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Make(path); !errdefs.IsAlreadyExists(err) {
		t.Errorf("made twice: %v", err)
	}
	cmd := exec.Command("sh", "-c", "for f; do echo 0 >$f; done; echo; exec sleep 1000", "sh")
	cmd.Args = append(cmd.Args, procs...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it lives if the test fails
		_ = cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	membership, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	if got := strings.Count(string(membership), path+"\n"); err != nil || got < len(procs) {
		t.Errorf("it has joined %d of %d: %s, %v", got, len(procs), membership, err)
	}
	cg, err := Load(loc)
	if err != nil {
		t.Fatal(err)
	}
	if pids, err := cg.Pids(); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("processes %v, %v", pids, err)
	}
	if err := cg.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if err := cg.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	_ = cg.Close()
	place, err := Place(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(place); !errdefs.IsNotFound(err) {
		t.Errorf("it is still there: %v", err)
	}
}
