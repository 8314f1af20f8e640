// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"berth/test/fakenvml"
)

// owner is whom the ledger says a slice is for.
type owner struct{ Namespace, Container string }

func (o owner) String() string { return o.Namespace + "/" + o.Container }

// record is what of the ledger's is looked at here.
type record struct {
	State string
	BusID string `json:"bus_id"`
	Place struct{ Start int }
	MIG   string
	Owner owner
}

func (r record) owner() string { return r.Owner.String() }

// records are those of the ledger. One may be replaced meanwhile.
func (s *storm) records() (out []record) {
	for _, path := range must(filepath.Glob(filepath.Join(s.m.run, "mig", "*", "*.json")))(s.T) {
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) || strings.HasPrefix(filepath.Base(path), ".") {
			continue // it is gone, or being written
		}
		var file struct{ Record record }
		if err := json.Unmarshal(data, &file); err != nil {
			s.Errorf("%s: %v: %s", path, err, data)
		}
		out = append(out, file.Record)
	}
	return out
}

// claim is what of a container's is looked at here.
type claim struct {
	ID     string
	Slices struct {
		Owner struct {
			ID  string
			Pod bool
		}
		Made []struct{ UUID string }
	}
}

// audit wants each container that lives to have its slices, and nobody else to
// have them but containers of its pod, if they share.
func (s *storm) audit() {
	var claims []claim
	for _, path := range must(filepath.Glob(filepath.Join(s.m.run, "claims", "*.json")))(s.T) {
		var c claim
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &c) == nil {
			claims = append(claims, c)
		}
	}
	there, ready := map[string]bool{}, map[string]bool{}
	for _, r := range s.records() {
		ready[r.MIG] = r.State == "Ready"
	}
	state, err := fakenvml.Read(s.state)
	if err != nil {
		s.Error(err)
		return
	}
	for _, g := range state.GPUs {
		for _, in := range g.Instances {
			for _, ci := range in.Compute {
				there[ci.UUID] = true
			}
		}
	}
	holder := map[string]claim{}
	for _, c := range claims {
		for _, made := range c.Slices.Made {
			other, taken := holder[made.UUID]
			holder[made.UUID] = c
			switch { // who lives now lived then
			case !s.lives(c.ID):
				delete(holder, made.UUID)
				continue
			case !there[made.UUID] || !ready[made.UUID]:
				s.Errorf("%s lives, and its slice %s is there: %v, and is its by the ledger: %v", c.ID, made.UUID, there[made.UUID], ready[made.UUID])
			case taken && (!c.Slices.Owner.Pod || other.Slices.Owner != c.Slices.Owner):
				s.Errorf("%s and %s live, and have the slice %s", c.ID, other.ID, made.UUID)
			}
			if s.note(sliceSeen); s.holds(c.ID) {
				s.note(sliceHeld)
			}
		}
	}
}

// inside are the processes of a container, in whichever hierarchy.
func (s *storm) inside(id string) (pids []string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
		for _, path := range must(filepath.Glob(filepath.Join(pattern, shared.ID(), id, "cgroup.procs")))(s.T) {
			data, _ := os.ReadFile(path) // it may be gone
			pids = append(pids, strings.Fields(string(data))...)
		}
	}
	return pids
}

func (s *storm) lives(id string) bool { return len(s.inside(id)) > 0 }

// holds says that a process of a container has the node of a capability open.
func (s *storm) holds(id string) bool {
	for _, pid := range s.inside(id) {
		for _, path := range must(filepath.Glob("/proc/" + pid + "/fd/*"))(s.T) {
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && int(unix.Major(st.Rdev)) == s.m.Majors.Caps {
				return true
			}
		}
	}
	return false
}

// wantNoFiles wants nothing of anybody's to be on disk, and with swept not even
// what only a sweep removes.
func (s *storm) wantNoFiles(swept bool) {
	s.Helper()
	patterns := []string{"claims/*", "tenants/*"}
	if swept {
		patterns = append(patterns, "mig/*/*.json")
	}
	for _, pattern := range patterns {
		if left := must(filepath.Glob(filepath.Join(s.m.run, pattern)))(s.T); left != nil {
			s.Errorf("left behind: %q", left)
		}
	}
	shown := must(filepath.Glob(filepath.Join(s.m.Proc, "driver/nvidia/capabilities/gpu*/mig/gi*")))(s.T)
	if swept && len(shown) != 1 {
		s.Errorf("the kernel shows %q, of which one is the administrator's", shown)
	}
}
