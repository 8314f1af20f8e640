// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A rule of the host's allows nothing in the guest that has another number there:
// neither another container's disk nor the port to the host (CVE-2020-2025).
func TestGuestRules(t *testing.T) {
	allow := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		return r
	}
	group := []specs.LinuxDevice{{Path: "/dev/vfio/7", Type: "c", Major: 236, Minor: 0}, {Path: "/dev/vfio/vfio", Type: "c", Major: 10, Minor: 196}}
	for name, c := range map[string]struct {
		rule specs.LinuxDeviceCgroup
		kept bool
	}{
		"what is denied":         {specs.LinuxDeviceCgroup{Access: "rwm"}, true},
		"a disk that is denied":  {specs.LinuxDeviceCgroup{Type: "b", Access: "rwm"}, true},
		"nodes of any":           {allow("c", -1, -1, "m"), true},
		"all of a privileged":    {allow("a", -1, -1, "rwm"), true},
		"all of one kind":        {allow("b", -1, -1, "rwm"), false},
		"all of the other":       {allow("c", -1, -1, "rw"), false},
		"/dev/null":              {allow("c", 1, 3, "rwm"), true},
		"terminals":              {allow("c", 136, -1, "rwm"), true},
		"/dev/net/tun":           {allow("c", 10, 200, "rwm"), true},
		"a disk":                 {allow("b", 8, 0, "rw"), false},
		"disks of a driver":      {allow("b", 8, -1, "rw"), false},
		"whatever has a number":  {allow("a", 8, 0, "rw"), false},
		"no kind, and a number":  {allow("", 254, 1, "rw"), false},
		"a number of any driver": {allow("c", -1, 1, "rw"), false},
		"the first that is left": {allow("c", 254, 1, "rw"), false},
		"the last":               {allow("c", 234, -1, "rw"), false},
		"one of the others":      {allow("c", 511, 0, "rw"), false},
		"the group of VFIO":      {allow("c", 236, 0, "rw"), false},
		"VFIO itself":            {allow("c", 10, 196, "rw"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := guestRules([]specs.LinuxDeviceCgroup{c.rule}, group); (len(got) == 1) != c.kept {
				t.Errorf("kept: %v", got)
			}
		})
	}
}
