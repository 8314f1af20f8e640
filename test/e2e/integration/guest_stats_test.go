// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// TestGuestStats asks the CRI for what a pod uses, and containerd for what its
// machine uses beside it: the metrics of the sandbox.
func TestGuestStats(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		pod := runPod(ctx, t, shared, identifier(t), r)
		id := must(pod.Run(ctx, "busy", "sleep", "1000"))(t)
		must(shared.Crictl(ctx, "exec", "--sync", id, "sh", "-c", "head -c 30000000 /dev/zero > /tmp/page-cache"))(t)

		var containers, pods struct {
			Stats []struct {
				Attributes struct{ ID string }
				Memory     struct{ WorkingSetBytes, UsageBytes value }
				CPU        struct{ UsageCoreNanoSeconds value }
				Linux      struct {
					Memory struct{ UsageBytes value }
				}
			}
		}
		decode(t, must(shared.Crictl(ctx, "stats", "-o", "json", "--id", id))(t), &containers)
		if len(containers.Stats) != 1 {
			t.Fatalf("crictl stats: %+v", containers)
		}
		used, err := containers.Stats[0].Memory.UsageBytes.number()
		cpu, cpuErr := containers.Stats[0].CPU.UsageCoreNanoSeconds.number()
		if err != nil || cpuErr != nil || used < 30_000_000 || cpu == 0 {
			t.Errorf("the container: %d bytes, %d ns, %v, %v", used, cpu, err, cpuErr)
		}
		decode(t, must(shared.Crictl(ctx, "statsp", "-o", "json", "--id", pod.ID))(t), &pods)
		if len(pods.Stats) != 1 {
			t.Fatalf("crictl statsp: %+v", pods)
		}
		whole, err := pods.Stats[0].Linux.Memory.UsageBytes.number()
		if err != nil || whole < used {
			t.Errorf("the pod: %d bytes, its container %d, %v", whole, used, err)
		}
		out := must(shared.Ctr(ctx, "-n", "k8s.io", "task", "metrics", "--format", "json", pod.ID))(t)
		t.Logf("the overhead: %s", out)
		if !strings.Contains(out, "usage") {
			t.Errorf("the sandbox's metrics: %s", out)
		}
	})
}

type value struct{ Value string }

func (v value) number() (int, error) { return strconv.Atoi(v.Value) }

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
