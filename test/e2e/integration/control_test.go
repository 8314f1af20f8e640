// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/runtime-spec/specs-go"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/typeurl/v2"
)

func TestKill(t *testing.T) {
	cases := []struct {
		name   string
		script string
		signal syscall.Signal
		status uint32
	}{
		{"handled", "trap 'echo caught; exit 7' TERM; echo ready; sleep 1000 & wait", syscall.SIGTERM, 7},
		{"killed", "echo ready; sleep 1000 & wait", syscall.SIGKILL, 137},
		{"ignoring", "trap '' TERM INT HUP; echo ready; sleep 1000 & wait; sleep 1000", syscall.SIGKILL, 137},
	}
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		for _, k := range cases {
			t.Run(k.name, func(t *testing.T) {
				ctx := testContext(t, shared)
				c := create(ctx, t, shared, r, request{args: []string{"sh", "-c", k.script}})
				exit := start(ctx, t, c.task)
				c.stdout.await(ctx, t, "ready\n")
				if k.name == "ignoring" {
					kill(ctx, t, c.task, syscall.SIGTERM)
					// The shell has had the signal once it answers to another process.
					if _, code := c.exec1(ctx, t, "alive", nil, "kill", "-0", "1"); code != 0 {
						t.Errorf("init is gone after a signal that it ignores: status %d", code)
					}
				}
				kill(ctx, t, c.task, k.signal)
				code := status(ctx, t, exit)
				if code != k.status {
					t.Errorf("status %d, want %d", code, k.status)
				}
				c.delete(ctx, t, code)
			})
		}
	})
}

// TestKillAll signals every process of a container.
func TestKillAll(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: []string{"sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait"}})
		exit := start(ctx, t, c.task)
		c.stdout.await(ctx, t, "ready\n")
		if err := c.task.Kill(ctx, syscall.SIGKILL, containerd.WithKillAll); err != nil {
			t.Errorf("kill all: %v", err)
		}
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

func TestPauseResume(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		for _, step := range []struct {
			name string
			do   func() error
			want containerd.ProcessStatus
		}{
			{"pause", func() error { return c.task.Pause(ctx) }, containerd.Paused},
			{"resume", func() error { return c.task.Resume(ctx) }, containerd.Running},
		} {
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if got := must(c.task.Status(ctx))(t); got.Status != step.want {
				t.Errorf("after %s: %s, want %s", step.name, got.Status, step.want)
			}
		}
		if _, code := c.exec1(ctx, t, "after", nil, "true"); code != 0 {
			t.Errorf("exec after resume: status %d", code)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestUpdate changes the memory limit of a running container.
func TestUpdate(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		limit := int64(64 << 20)
		resources := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		if err := c.task.Update(ctx, containerd.WithResources(resources)); err != nil {
			t.Fatalf("update: %v", err)
		}
		if !r.guest { // there it is out of this test's sight
			if got := cgroupFile(t, c.task.Pid(), "memory", "memory.limit_in_bytes", "memory.max"); got != strconv.FormatInt(limit, 10) {
				t.Errorf("the cgroup's limit is %s, want %d", got, limit)
			}
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestStats decodes the metrics with the types that containerd's users have.
func TestStats(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{
			args: []string{"sh", "-c", "head -c 4000000 /dev/zero >/tmp/page-cache; sleep 1000 & echo ready; wait"},
		})
		exit := start(ctx, t, c.task)
		c.stdout.await(ctx, t, "ready\n")
		metric := must(c.task.Metrics(ctx))(t)
		if metric.ID != c.ID() || metric.Timestamp.AsTime().IsZero() {
			t.Errorf("metric of %q at %v", metric.ID, metric.Timestamp)
		}
		// The form is what the host's cgroups have, wherever the container is:
		// containerd's collector takes no other.
		_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
		if v1 := strings.Contains(metric.Data.TypeUrl, "cgroups.v1"); v1 != (err != nil) {
			t.Errorf("the metrics are %s", metric.Data.TypeUrl)
		}
		var memory, cpu, pids uint64
		switch {
		case strings.Contains(metric.Data.TypeUrl, "cgroups.v1"):
			var stats cgroup1.Metrics
			if err := typeurl.UnmarshalTo(metric.Data, &stats); err != nil {
				t.Fatal(err)
			}
			memory, cpu, pids = stats.Memory.Usage.Usage, stats.CPU.Usage.Total, stats.Pids.Current
		default:
			var stats cgroup2.Metrics
			if err := typeurl.UnmarshalTo(metric.Data, &stats); err != nil {
				t.Fatalf("%s: %v", metric.Data.TypeUrl, err)
			}
			memory, cpu, pids = stats.Memory.Usage, stats.CPU.UsageUsec, stats.Pids.Current
		}
		if memory < 4000000 || cpu == 0 || pids != 2 {
			t.Errorf("memory %d, cpu %d, pids %d; want over 4000000, some, 2", memory, cpu, pids)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}
