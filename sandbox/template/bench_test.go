// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"testing"
	"time"

	"berth/sandbox/agentapi"
	"berth/sandbox/vm"
)

// BenchmarkFirstOutput is the time until a container's output has come, all of it,
// in a machine that begins as a copy and in one that boots, one after the other.
func BenchmarkFirstOutput(b *testing.B) {
	r := newRig(b)
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	r.ctx = ctx
	tpl, err := Make(r.ctx, r.Config, false)
	r.must(err)
	defer tpl.Close()
	r.Share = r.rootfs()
	var first, cloned, booted time.Duration
	for b.Loop() {
		begin := time.Now()
		m, err := vm.Clone(r.ctx, r.Config, tpl)
		r.must(err)
		r.must(talk(r.ctx, m.Transport(), func(ctx context.Context, agent agentapi.AgentService) error {
			err := renew(ctx, agent, "clone")
			first += time.Since(begin)
			return err
		}))
		r.must(talk(r.ctx, m.Transport(), func(ctx context.Context, agent agentapi.AgentService) error {
			_, err := agent.Plug(ctx, &agentapi.PlugRequest{Share: true})
			return err
		}))
		cloned += r.output(m, begin)
		begin = time.Now()
		m, err = vm.Boot(r.ctx, r.Config)
		r.must(err)
		booted += r.output(m, begin)
	}
	for name, d := range map[string]time.Duration{"first-rpc": first, "clone": cloned, "boot": booted} {
		b.ReportMetric(float64(d.Milliseconds())/float64(b.N), name+"-ms/op")
	}
	b.ReportMetric(0, "ns/op")
}

// output is the time until a container has written something, and ended.
func (r *rig) output(m *vm.Machine, begin time.Time) time.Duration {
	r.Helper()
	if got := r.run(m, "echo hello"); got != "hello\n" {
		r.Errorf("the container says %q", got)
	}
	d := time.Since(begin)
	r.must(m.Close(context.Background()))
	return d
}
