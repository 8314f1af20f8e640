// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"strings"
	"testing"
)

const smaps = `00400000-006f0000 r-xp 00000000 fe:00 77   /usr/bin/containerd-shim-pod-v2
Rss:                3004 kB
Anonymous:             0 kB
006f0000-00a6d000 r--p 002f0000 fe:00 77   /usr/bin/containerd-shim-pod-v2
Anonymous:             4 kB
VmFlags: rd mr mw me sd
00a6d000-00a9d000 rw-p 0066d000 fe:00 77   /usr/bin/containerd-shim-pod-v2
Anonymous:             0 kB
00a9d000-02ad6000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000002000 r--p 00000000 fe:00 78   /usr/lib/containerd-shim-pod-v2
Anonymous:             0 kB
7f0000004000-7f0000005000 r--p 00000000 fe:00 77   /usr/bin/containerd-shim-pod-v2
Anonymous:             0 kB
`

// Only what was never written may be dropped: the rest is in no file.
func TestCleanAreas(t *testing.T) {
	got, err := cleanAreas(strings.NewReader(smaps), "/usr/bin/containerd-shim-pod-v2")
	want := []area{{0x400000, 0x6f0000}, {0x7f0000004000, 0x7f0000005000}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("areas %x, %v, want %x", got, err, want)
	}
}

func FuzzCleanAreas(f *testing.F) {
	f.Add(smaps)
	f.Fuzz(func(t *testing.T, text string) {
		areas, _ := cleanAreas(strings.NewReader(text), "/usr/bin/containerd-shim-pod-v2")
		if len(areas) > strings.Count(text, "Anonymous") {
			t.Errorf("%d areas", len(areas))
		}
	})
}

// The program goes on after its pages were let go, of course.
func TestUnmap(t *testing.T) {
	areas, err := programAreas()
	if err != nil || len(areas) == 0 {
		t.Fatalf("areas %v, %v", areas, err)
	}
	unmap(areas)
	if _, err := os.ReadFile("/proc/self/maps"); err != nil {
		t.Error(err)
	}
}
