// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"berth/test/e2e/node"
)

// TestGuestUpdateByCRI updates a container of a pod that runs, as kubelet does for a
// resize in place: its cgroup in the guest follows, the machine's on the host, and the
// balloon. More than the machine was booted with is refused.
func TestGuestUpdateByCRI(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		limits := map[string]any{"memory_limit_in_bytes": 200 << 20, "cpu_period": 100_000, "cpu_quota": 100_000}
		pod := must(shared.RunPodWith(ctx, identifier(t), r.handler, node.PodOptions{Resources: limits}))(t)
		t.Cleanup(func() {
			if err := pod.Remove(testContext(t, shared)); err != nil {
				t.Error(err)
			}
		})
		id := must(pod.RunWith(ctx, "c", node.ContainerOptions{Resources: limits}, idle...))(t)
		g := updated{t: t, id: id, vmm: uint32(inspect(ctx, t, shared, id).Info.Pid)}

		g.want(ctx, "209715200", "100000 100000")
		whole, available := g.hostMiB(), g.availableMiB(ctx)
		if err := g.update(ctx, "--memory", "104857600", "--cpu-quota", "50000", "--cpu-period", "100000"); err != nil {
			t.Fatal(err)
		}
		g.want(ctx, "104857600", "50000 100000")
		if got := g.hostMiB(); got != whole-100 {
			t.Errorf("the host's limit is %d MiB, was %d", got, whole)
		}
		if got := g.availableMiB(ctx); got > available-60 {
			t.Errorf("the guest has %d MiB available, had %d: no balloon has taken any", got, available)
		}

		for _, c := range []struct{ flag, value, says string }{
			{"--memory", "1073741824", "berth.dev/vm-memory"}, {"--cpu-quota", "500000", "berth.dev/vm-cpus"},
		} {
			if err := g.update(ctx, c.flag, c.value); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("more than the machine has, %s %s: %v, want %q", c.flag, c.value, err, c.says)
			}
		}
		g.want(ctx, "104857600", "50000 100000")

		if err := g.update(ctx, "--memory", "209715200", "--cpu-quota", "100000"); err != nil {
			t.Fatal(err)
		}
		g.want(ctx, "209715200", "100000 100000")
		if got := g.hostMiB(); got != whole {
			t.Errorf("the host's limit is %d MiB, was %d", got, whole)
		}
		if got := g.availableMiB(ctx); got < available-60 {
			t.Errorf("the guest has %d MiB available, had %d: the balloon has kept them", got, available)
		}
	})
}

// updated is a container that is updated.
type updated struct {
	t   *testing.T
	id  string
	vmm uint32
}

func (u updated) update(ctx context.Context, flags ...string) error {
	_, err := shared.Crictl(ctx, append(append([]string{"update"}, flags...), u.id)...)
	return err
}

// want looks at the container's cgroup in the guest (cgroup v2), which it may have by
// itself or as one of all.
func (u updated) want(ctx context.Context, memory, cpu string) {
	u.t.Helper()
	const script = `cd "/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)" && cat memory.max cpu.max`
	got := must(shared.Crictl(ctx, "exec", "--sync", u.id, "sh", "-c", script))(u.t)
	if want := memory + "\n" + cpu; strings.TrimSpace(got) != want {
		u.t.Errorf("in the guest: %q, want %q", got, want)
	}
}

// hostMiB is the limit of the machine's cgroup on the host.
func (u updated) hostMiB() int {
	u.t.Helper()
	return must(strconv.Atoi(cgroupFile(u.t, u.vmm, "memory", "memory.limit_in_bytes", "memory.max")))(u.t) >> 20
}

func (u updated) availableMiB(ctx context.Context) (mib int) {
	u.t.Helper()
	out := must(shared.Crictl(ctx, "exec", "--sync", u.id, "grep", "MemAvailable", "/proc/meminfo"))(u.t)
	if _, err := fmt.Sscanf(out, "MemAvailable: %d kB", &mib); err != nil {
		u.t.Fatalf("%v: %s", err, out)
	}
	return mib >> 10
}
