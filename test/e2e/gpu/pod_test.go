// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"berth/test/e2e/node"
)

// TestPod runs a pod, as a kubelet does, whose annotation asks for a GPU for one
// of its containers by name. The other asks by an environment that an image may
// have set, which does not count in a pod. The sandbox gets nothing.
func TestPod(t *testing.T) {
	home.use(t)
	ctx := testContext(t)
	pod := must(shared.RunAnnotatedPod(ctx, "gpu", node.GPUHandler, map[string]string{
		"berth.dev/gpu.trainer": "index:1", "berth.dev/gpu-capabilities": "utility,compute",
	}))(t)
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t)); err != nil {
			t.Error(err)
		}
	})
	trainer := must(pod.Run(ctx, "trainer", "sleep", "1000"))(t)
	sidecar := must(pod.RunEnv(ctx, "sidecar", map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}, "sleep", "1000"))(t)

	out, err := shared.Crictl(ctx, "exec", "--sync", trainer, "/usr/bin/nvidia-smi")
	if err != nil {
		t.Error(err)
	}
	wantDevices(t, view{text: out}, append(home.control(), gpuNode(home.GPUs[1]))...)
	probe := func(id string, minor int) string {
		out, err := shared.Crictl(ctx, "exec", "--sync", id, "sh", "-c",
			fmt.Sprintf("mknod /dev/probe c 195 %d && cat /dev/probe", minor))
		return fmt.Sprint(out, err)
	}
	if got := probe(trainer, home.GPUs[0].Minor); !strings.Contains(got, "Operation not permitted") {
		t.Errorf("the trainer's probe of another GPU: %s", got)
	}
	if got := probe(sidecar, home.GPUs[1].Minor); !strings.Contains(got, "Operation not permitted") {
		t.Errorf("the sidecar's probe: %s", got)
	}
	if out, err := shared.Crictl(ctx, "exec", "--sync", sidecar, "sh", "-c", "ls /dev /usr 2>/dev/null | grep -c -e nvidia -e local || true"); strings.TrimSpace(out) != "0" || err != nil {
		t.Errorf("the sidecar has %s, %v", out, err)
	}
	if status := must(shared.Crictl(ctx, "inspectp", pod.ID))(t); !strings.Contains(status, "berth.dev/gpu.trainer") || strings.Contains(status, "/dev/nvidia") {
		t.Errorf("the sandbox's specification: %s", status)
	}
	claims := must(filepath.Glob(home.run + "/claims/*"))(t)
	if len(claims) != 1 || filepath.Base(claims[0]) != "k8s.io:"+trainer+".json" {
		t.Errorf("claims %q, want the trainer's", claims)
	}
	if shims := podShims(t); shims != 1 {
		t.Errorf("%d shims serve the pod", shims)
	}
	var inspected struct {
		Info struct {
			RuntimeSpec json.RawMessage `json:"runtimeSpec"`
		} `json:"info"`
	}
	if err := json.Unmarshal([]byte(must(shared.Crictl(ctx, "inspect", sidecar))(t)), &inspected); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(inspected.Info.RuntimeSpec), "/dev/nvidia") {
		t.Error("the sidecar's specification names GPUs")
	}
}

// TestPodUserNamespace runs a pod with hostUsers: false.
func TestPodUserNamespace(t *testing.T) {
	home.use(t)
	ctx := testContext(t)
	if !mapsMounts(ctx, t) {
		t.Skip("needs a kernel and a snapshotter with idmapped mounts")
	}
	pod := must(shared.RunUserPod(ctx, "gpu-users", node.GPUUsersHandler, map[string]string{"berth.dev/gpu": "index:1"}, 100000, 65536))(t)
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t)); err != nil {
			t.Error(err)
		}
	})
	id := must(pod.Run(ctx, "trainer", "sleep", "1000"))(t)
	if out, err := shared.Crictl(ctx, "exec", "--sync", id, "cat", "/proc/self/uid_map"); err != nil || !strings.Contains(out, "100000") {
		t.Errorf("uid_map %s, %v", out, err)
	}
	out, err := shared.Crictl(ctx, "exec", "--sync", id, "/usr/bin/nvidia-smi")
	if err != nil {
		t.Error(err)
	}
	wantDevices(t, view{text: out}, append(home.control(), gpuNode(home.GPUs[1]))...)
}

// podShims counts the shims of CRI's containers.
func podShims(t *testing.T) (n int) {
	t.Helper()
	for _, p := range must(shared.Shims())(t) {
		if strings.Contains(p.Command, "k8s.io") {
			n++
		}
	}
	return n
}
