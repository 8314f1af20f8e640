// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"encoding/json"
	"flag"
	"slices"
	"testing"
	"time"

	"berth/process"
	"berth/process/oci"
)

var lives = flag.Int("lives", 0, "how many lives of a container TestCompare measures by each driver")

// driver is what the library and the command line have in common.
type driver interface {
	Create(context.Context, *oci.CreateRequest) (*process.Process, error)
	Start(context.Context, string) error
	Exec(context.Context, *oci.ExecRequest) (*process.Process, error)
	Pause(context.Context, string) error
	Resume(context.Context, string) error
	Update(context.Context, string, []byte) error
	Delete(context.Context, string, bool) error
}

// TestCompare measures the library beside the command line, in turns, and
// prints medians. It asserts no time.
func TestCompare(t *testing.T) {
	if *lives == 0 {
		t.Skip("-lives is not given: this measures")
	}
	needRunc(t)
	b := newBox(t, "sleep 1000")
	fill(b.spec)
	b.spec.Hooks = nil
	b.write()
	spec, err := json.Marshal(shell("true"))
	b.must(err)
	names := []string{"native", "command"}
	took := map[string]map[string][]time.Duration{}
	for round := range *lives + 1 {
		for i := range names {
			name := names[(i+round)%2]
			d := driver(b.driver)
			if name == "command" {
				d = b.cli()
			}
			measure := func(what string, f func()) {
				begin := time.Now()
				f()
				if took[what] == nil {
					took[what] = map[string][]time.Duration{}
				}
				if round > 0 { // the first is of cold caches
					took[what][name] = append(took[what][name], time.Since(begin))
				}
			}
			var init, e *process.Process
			measure("create", func() { init, err = d.Create(t.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle}) })
			b.must(err)
			measure("start", func() { err = d.Start(t.Context(), b.id) })
			b.must(err)
			for range 5 {
				r := &oci.ExecRequest{ID: b.id, ExecID: "e", Bundle: b.bundle, Process: spec}
				measure("exec", func() { e, err = d.Exec(t.Context(), r) })
				b.must(err)
				b.status(e)
			}
			b.kill(init)
			measure("delete", func() { err = d.Delete(t.Context(), b.id, false) })
			b.must(err)
		}
	}
	for _, what := range []string{"create", "start", "exec", "delete"} {
		native, command := median(took[what]["native"]), median(took[what]["command"])
		t.Logf("%-6s native %8v  command %8v  ratio %.2f", what, native.Round(10*time.Microsecond), command.Round(10*time.Microsecond), float64(native)/float64(command))
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
