// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestXidClass(t *testing.T) {
	for _, c := range []struct {
		x    Xid
		want string
	}{
		{Xid{Number: 13}, "app"}, {Xid{Number: 94}, "app"}, {Xid{Number: 105}, "app"},
		{Xid{Number: 95}, "reset"}, {Xid{Number: 109}, "reset"}, {Xid{Number: 119}, "reset"},
		{Xid{Number: 79}, "machine"}, {Xid{Number: 48}, "workflow"}, {Xid{Number: 63}, "info"}, {Xid{Number: 45}, "info"},
		{Xid{Number: 0}, "unknown"}, {Xid{Number: 107}, "unknown"}, {Xid{Number: 999}, "unknown"},
		{Xid{Number: 154, Message: "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"}, "reset"},
		{Xid{Number: 154, Message: "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x2 (Node Reboot Required)"}, "machine"},
		{Xid{Number: 154, Message: "GPU recovery action changed from 0x2 (Node Reboot Required) to 0x0 (None)"}, "info"},
		{Xid{Number: 154, Message: "GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)"}, "workflow"},
		{Xid{Number: 154, Message: "x to 0x0, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)"}, "reset"},
		{Xid{Number: 154, Message: "something else to 0x"}, "unknown"},
	} {
		if got := c.x.Class().String(); got != c.want {
			t.Errorf("%d %q is of class %s, not %s", c.x.Number, c.x.Message, got, c.want)
		}
	}
}

// No number has two rows: the first would hide the second.
func TestXidTableIsAFunction(t *testing.T) {
	seen := make(map[int]bool)
	for _, row := range xidTable {
		for _, n := range row.numbers {
			if seen[n] || n <= 0 || n == xidRecovery {
				t.Errorf("%d is listed twice", n)
			}
			seen[n] = true
		}
	}
}

func TestXidActions(t *testing.T) {
	bars := XidPolicy{Bar: []string{"reset", "machine"}}
	for name, c := range map[string]struct {
		p      XidPolicy
		number int
		want   string
	}{
		"by default":            {XidPolicy{}, 79, "report"},
		"class":                 {bars, 79, "bar"},
		"another class":         {bars, 31, "report"},
		"unknown":               {bars, 999, "report"},
		"both":                  {XidPolicy{Kill: []string{"app", "machine"}, Bar: []string{"79"}}, 79, "kill,bar"},
		"number":                {XidPolicy{Kill: []string{"31"}}, 31, "kill"},
		"ignored class":         {XidPolicy{Ignore: []string{"info"}}, 63, "ignore"},
		"ignored number":        {XidPolicy{Bar: []string{"reset"}, Ignore: []string{"109"}}, 109, "ignore"},
		"number, class ignored": {XidPolicy{Kill: []string{"13"}, Ignore: []string{"app"}}, 13, "kill"},
		"its class is ignored":  {XidPolicy{Kill: []string{"13"}, Ignore: []string{"app"}}, 31, "ignore"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.p.Validate(); err != nil {
				t.Error(err)
			}
			a := c.p.Actions(Xid{Number: c.number})
			if a.String() != c.want || a.Report != (c.want != "ignore") {
				t.Errorf("%+v, want %s", a, c.want)
			}
		})
	}
}

func TestXidPolicyRefuses(t *testing.T) {
	for says, p := range map[string]XidPolicy{
		`class "fatal" is not known; known are unknown, info, app, workflow, reset, machine, or the number`: {Kill: []string{"fatal"}},
		`class "" is not known`:    {Bar: []string{""}},
		`class "079" is not known`: {Ignore: []string{"079"}},
		`class "-1" is not known`:  {Bar: []string{"-1"}},
		`class "0" is not known`:   {Bar: []string{"0"}},
		`"79" is ignored and has`:  {Bar: []string{"79"}, Ignore: []string{"79"}},
		`"app" is ignored and has`: {Kill: []string{"app"}, Ignore: []string{"app"}},
	} {
		if err := p.Validate(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, which does not say %q", p, err, says)
		}
	}
}

func TestAttribute(t *testing.T) {
	const bus, other = "0000:3b:00.0", "0000:5e:00.0"
	mig := func(gi, ci int) []HeldInstance { return []HeldInstance{{bus, gi, ci}, {other, 1, 1}} }
	holders := []Holder{
		{ID: "a", BusIDs: []string{bus}, HasPid: func(pid int) bool { return pid == 10 || pid == 0 }},
		{ID: "b", BusIDs: []string{other, bus}, HasPid: func(pid int) bool { return pid == 20 }},
		{ID: "c", Instances: mig(1, 0)},
		{ID: "d", Instances: mig(1, 1)},
		{ID: "e", Instances: mig(2, -1)},
		{ID: "f"},
	}
	for name, c := range map[string]struct {
		x    Xid
		want string
	}{
		"pid":                            {Xid{BusID: bus, GI: -1, CI: -1, Pid: 20}, "[b] pid"},
		"pid though its instance is not": {Xid{BusID: bus, GI: 1, CI: 1, Pid: 10}, "[a] pid"},
		"pid of nobody here":             {Xid{BusID: bus, GI: 1, CI: 1, Pid: 99}, "[d] mig"},
		"GPU instance":                   {Xid{BusID: bus, GI: 1, CI: -1}, "[c d] mig"},
		"compute instance":               {Xid{BusID: bus, GI: 1, CI: 0}, "[c] mig"},
		"a whole GPU instance is held":   {Xid{BusID: bus, GI: 2, CI: 5}, "[e] mig"},
		"an instance that nobody holds":  {Xid{BusID: bus, GI: 7, CI: 0}, "[a b] gpu"},
		"GPU":                            {Xid{BusID: bus, GI: -1, CI: -1}, "[a b c d e] gpu"},
		"another GPU":                    {Xid{BusID: other, GI: -1, CI: -1}, "[b c d e] gpu"},
		"a GPU that nobody holds":        {Xid{BusID: "0000:00:00.0", GI: -1, CI: -1}, "[] "},
	} {
		t.Run(name, func(t *testing.T) {
			ids, how := Attribute(c.x, holders)
			if got := fmt.Sprint(ids, " ", how); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
