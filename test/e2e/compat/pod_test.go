// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"berth/test/e2e/image"
)

// hostNetwork is CRI's NamespaceMode NODE: no CNI plugins take part.
const hostNetwork = 2

// pod is a CRI pod with one container.
type pod struct {
	h             *host
	id, container string
}

// writePod writes the configurations of a pod and of its container.
func (h *host) writePod(t *testing.T, name string) (podFile, containerFile string) {
	t.Helper()
	labels := map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "default"}
	logs := filepath.Join(h.dir, "pods", name)
	podFile, containerFile = logs+".json", logs+"-c.json"
	write := func(file string, value any) {
		data, err := json.Marshal(value)
		if err == nil {
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(podFile, map[string]any{
		"metadata":      map[string]any{"name": name, "namespace": "default", "uid": h.id + "-" + name},
		"labels":        labels,
		"log_directory": logs,
		"linux": map[string]any{
			"cgroup_parent":    "/" + h.id,
			"security_context": map[string]any{"namespace_options": map[string]any{"network": hostNetwork}},
		},
	})
	write(containerFile, map[string]any{
		"metadata": map[string]any{"name": "c"},
		"labels":   labels,
		"image":    map[string]string{"image": image.Demo},
		"command":  []string{"sh", "-c", "echo hello; exec sleep 2147483647"},
		"log_path": "c.log",
		"linux": map[string]any{
			"security_context": map[string]any{"namespace_options": map[string]any{"network": hostNetwork}},
		},
	})
	return podFile, containerFile
}

// runPod runs a pod with its container.
func (h *host) runPod(t *testing.T, name string) *pod {
	t.Helper()
	podFile, containerFile := h.writePod(t, name)
	p := &pod{h: h, id: h.crictl(t, "runp", "--runtime", "pod", podFile)}
	h.noteSockets(t)
	p.container = h.crictl(t, "create", p.id, containerFile, podFile)
	h.crictl(t, "start", p.container)
	return p
}

// pid is that of the init of the pod's sandbox or container.
func (p *pod) pid(t *testing.T, id string) int {
	t.Helper()
	for line := range strings.Lines(p.h.ctr(t, "-n", "k8s.io", "tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == id {
			if pid, err := strconv.Atoi(fields[1]); err == nil && fields[2] == "RUNNING" {
				return pid
			}
		}
	}
	t.Fatalf("no task of %s runs\n%s", id, p.h.logTail())
	return 0
}

// works looks at a pod that runs.
func (p *pod) works(t *testing.T) {
	t.Helper()
	if a, b := p.h.shimOf(t, p.pid(t, p.id)), p.h.shimOf(t, p.pid(t, p.container)); a != b {
		t.Errorf("the pod has shims %d and %d, want one", a, b)
	}
	if got := p.h.crictl(t, "exec", "-s", p.container, "echo", "from", "exec"); got != "from exec" {
		t.Errorf("exec: %q", got)
	}
	if got := p.h.crictl(t, "ps", "-q", "--no-trunc", "--state", "Running"); got != p.container {
		t.Errorf("running containers %q, want %s", got, p.container)
	}
	if got := p.h.crictl(t, "stats", "-o", "json", p.container); !strings.Contains(got, "usageCoreNanoSeconds") {
		t.Errorf("stats: %s", got)
	}
}

func (p *pod) remove(t *testing.T) {
	t.Helper()
	p.h.crictl(t, "stop", "--timeout", "0", p.container)
	if got := p.h.crictl(t, "inspect", "-o", "go-template", "--template", "{{.status.state}} {{.status.exitCode}}", p.container); got != "CONTAINER_EXITED 137" {
		t.Errorf("after stop: %q, want CONTAINER_EXITED 137", got)
	}
	p.h.crictl(t, "stopp", p.id)
	p.h.crictl(t, "rmp", p.id)
}

// testPod runs a pod whose handler has options, which CRI sends as TOML.
func testPod(t *testing.T, h *host) {
	p := h.runPod(t, "pod")
	for _, id := range []string{p.id, p.container} {
		if state := filepath.Join(h.dir, "runc", "k8s.io", id, "state.json"); !exists(state) {
			t.Errorf("%s does not exist: the option Root had no effect", state)
		}
		h.wantProtocol(t, filepath.Join(h.dir, "state", "io.containerd.runtime.v2.task", "k8s.io", id))
	}
	p.works(t)
	h.await(t, "the container's log", func() bool { return strings.Contains(h.crictl(t, "logs", p.container), "hello") })
	p.remove(t)
}

// testPodTypo wants the name of an option that does not exist in CRI's error.
func testPodTypo(t *testing.T, h *host) {
	podFile, _ := h.writePod(t, "typo")
	_, code, stderr := h.try(t, "crictl", "runp", "--runtime", "typo", podFile)
	if code == 0 || !strings.Contains(stderr, "SystemdCgroop") {
		t.Errorf("status %d, want an error that names SystemdCgroop: %s", code, stderr)
	}
	for _, id := range strings.Fields(h.crictl(t, "pods", "-q")) {
		h.crictl(t, "rmp", "-f", id)
	}
}
