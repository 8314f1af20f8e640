// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"testing"
	"time"
)

// record boots a machine and puts it on record.
func (r *rig) record(c Config, sharing bool) *Template {
	r.Helper()
	m, err := BootTemplate(r.ctx, c, sharing)
	if err != nil {
		r.Fatal(err)
	}
	g := r.heard(m)
	g.do("read", "/proc/uptime")
	t, err := m.Record(r.ctx)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(t.Close)
	return t
}

func TestClone(t *testing.T) {
	r := newRig(t)
	c := r.config()
	tpl := r.record(c, false)
	for range 3 {
		begin := time.Now()
		m, err := Clone(r.ctx, c, tpl)
		if err != nil {
			t.Fatal(err)
		}
		r.closes(m)
		t.Logf("restored %v", time.Since(begin))
		g := r.clone(m)
		t.Log(g.do("read", "/proc/uptime"))
		t.Logf("rpc after %v", time.Since(begin))
		b, _ := os.ReadFile("/proc/self/statm")
		t.Log(string(b))
	}
}
