// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

// rootlessUser is the first of the ids that the rootless containerd's user has.
const rootlessUser = 200000

// TestRootless has a containerd in a user namespace, with the shim and with the
// control: what either says, and what containers see, is the same to the letter.
func TestRootless(t *testing.T) {
	if !strings.Contains(*runtimes, node.PodRuntime) {
		t.Skip("the pod shim is not among the runtimes under test")
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	dir := rootlessDir(t)
	cmd := exec.CommandContext(ctx, "/bin/sh", must(filepath.Abs("testdata/rootless.sh"))(t), dir, node.RuncRuntime, node.PodRuntime)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir}
	ids := []syscall.SysProcIDMap{{HostID: rootlessUser, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		// With the namespace's first process all the others end.
		Pdeathsig: syscall.SIGKILL, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "containerd.log"))
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, log)
	}
	said := map[string]string{}
	for _, part := range strings.Split(string(out), "== ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		said[title] = text
	}
	pod, runc := said[node.PodRuntime], said[node.RuncRuntime]
	if pod != runc {
		t.Errorf("%s said\n%s\n%s said\n%s", node.PodRuntime, pod, node.RuncRuntime, runc)
	}
	unpausable := "cgroups not configured"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // v2, where the library looks for the freezer itself
		unpausable = "freezer not supported"
	}
	for _, want := range []string{"200000      65536\n", "status 3\n", "1000\nstatus 0\n", "RUNNING\n", unpausable, "-- the shim dies\n"} {
		if !strings.Contains(pod, want) {
			t.Errorf("%s did not say %q", node.PodRuntime, want)
		}
	}
	if left := said["left"]; left != "" {
		t.Errorf("there are left\n%s", left)
	}
	if t.Failed() {
		t.Logf("both said\n%s\ncontainerd's log:\n%s", out, log)
	}
}

// rootlessDir has what the user needs where he can reach it.
func rootlessDir(t *testing.T) string {
	t.Helper()
	checkout := must(node.Checkout())(t)
	dir := must(os.MkdirTemp("/tmp", "rl-"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	succeed := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	succeed(os.Chmod(dir, 0o755))
	succeed(os.Chown(dir, rootlessUser, rootlessUser))
	succeed(os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	for _, program := range []string{
		"bin/containerd-shim-pod-v2", ".tools/bin/containerd-shim-runc-v2", ".tools/bin/containerd", ".tools/bin/ctr", ".tools/bin/runc",
	} {
		data := must(os.ReadFile(filepath.Join(checkout, program)))(t)
		succeed(os.WriteFile(filepath.Join(dir, "bin", filepath.Base(program)), data, 0o755))
	}
	archive := must(os.Create(filepath.Join(dir, "images.tar")))(t)
	succeed(image.Write(archive, must(image.FindBusybox())(t)))
	succeed(archive.Close())
	return dir
}
