// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestVersion runs containers under each version, all on one host.
func TestVersion(t *testing.T) {
	for _, v := range versions(t) {
		t.Run(v.name, func(t *testing.T) {
			if err := v.missing(); err != nil {
				t.Skip(err)
			}
			h := newHost(t)
			h.start(t, v)
			h.loadImages(t)
			for _, test := range []struct {
				name string
				run  func(*testing.T, *host)
			}{
				{"run", testRun}, {"kill", testKill}, {"exec", testExec}, {"pause", testPause}, {"metrics", testMetrics},
				{"group", testGroup}, {"terminal", testTerminal}, {"config", testConfigPath}, {"typo", testConfigTypo},
				{"dropin", testDropIn}, {"pod", testPod}, {"podtypo", testPodTypo},
				{"shimkilled", testShimKilled}, {"restart", testRestart}, {"away", testAway},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, h) })
			}
		})
	}
}

// wantProtocol looks at what shim and containerd agreed on.
func (h *host) wantProtocol(t *testing.T, bundle string) {
	t.Helper()
	if got, address := bootstrap(t, bundle); got != h.version.protocol || !strings.HasPrefix(address, "unix:///") {
		t.Errorf("protocol version %d at %q, want %d and an address unix://...", got, address, h.version.protocol)
	}
}

func testRun(t *testing.T, h *host) {
	out, code, stderr := h.try(t, "ctr", h.runArgs("run", "", []string{"--rm"}, []string{"sh", "-c", "echo out; echo err >&2; exit 3"})...)
	if out != "out\n" || code != 3 || !strings.Contains(stderr, "err\n") {
		t.Errorf("output %q, status %d, want \"out\" and 3; stderr %q\n%s", out, code, stderr, h.logTail())
	}
}

func testKill(t *testing.T, h *host) {
	s := h.attach(t, h.runArgs("kill", "", []string{"--rm"}, []string{"sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"})...)
	h.wantProtocol(t, h.bundle("kill"))
	h.ctr(t, "tasks", "kill", "-s", "SIGTERM", "kill")
	if code := s.end(t); code != 5 {
		t.Errorf("status %d after SIGTERM, want 5; stderr: %s", code, s.stderr.String())
	}
	s = h.attach(t, h.runArgs("kill", "", []string{"--rm"}, []string{"sh", "-c", "echo up; sleep 2147483647"})...)
	h.ctr(t, "tasks", "kill", "--all", "-s", "SIGKILL", "kill")
	if code := s.end(t); code != 137 {
		t.Errorf("status %d after SIGKILL, want 137; stderr: %s", code, s.stderr.String())
	}
}

func testExec(t *testing.T, h *host) {
	h.runIdle(t, "exec", "")
	h.exec(t, "exec")
	s := h.attach(t, "tasks", "exec", "--fifo-dir", filepath.Join(h.dir, "fifo"), "--exec-id", "killed", "exec", "sh", "-c", "echo up; sleep 2147483647")
	if got := h.ctr(t, "tasks", "ps", "exec"); !strings.Contains(got, "killed") {
		t.Errorf("ctr tasks ps does not show the exec:\n%s", got)
	}
	h.ctr(t, "tasks", "kill", "--exec-id", "killed", "-s", "SIGKILL", "exec")
	if code := s.end(t); code != 137 {
		t.Errorf("status %d of the killed exec, want 137; stderr: %s", code, s.stderr.String())
	}
	h.taskPid(t, "exec") // still runs
	h.remove(t, "exec")
}

func testPause(t *testing.T, h *host) {
	h.runIdle(t, "pause", "")
	h.ctr(t, "tasks", "pause", "pause")
	h.awaitStatus(t, "pause", "PAUSED")
	h.ctr(t, "tasks", "resume", "pause")
	h.awaitStatus(t, "pause", "RUNNING")
	h.remove(t, "pause")
}

// usedMemory is a number greater than 0 in any of the forms that ctr has for it.
var usedMemory = regexp.MustCompile(`memory\.usage(_in_bytes)?\s+[1-9]`)

func testMetrics(t *testing.T, h *host) {
	h.runIdle(t, "metrics", "")
	if got := h.ctr(t, "tasks", "metrics", "metrics"); !usedMemory.MatchString(got) || !strings.Contains(got, "metrics") {
		t.Errorf("metrics have no memory usage:\n%s", got)
	}
	h.remove(t, "metrics")
}

func testGroup(t *testing.T, h *host) {
	first := h.runIdle(t, "group-a", "g")
	second := h.runIdle(t, "group-b", "g")
	if a, b := h.shimOf(t, first), h.shimOf(t, second); a != b {
		t.Errorf("shims %d and %d, want one", a, b)
	}
	h.wantProtocol(t, h.bundle("group-a"))
	h.wantProtocol(t, h.bundle("group-b"))
	h.exec(t, "group-a")
	h.remove(t, "group-a")
	h.exec(t, "group-b")
	h.remove(t, "group-b")
}
