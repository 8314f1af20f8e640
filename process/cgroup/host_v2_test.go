// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// diskVariable names a block device that the reader may read.
const diskVariable = "BERTH_TEST_DISK"

// readDisk reads 1 MiB with O_DIRECT, which wants an aligned buffer (open(2)).
func readDisk(path string) int {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return 1
	}
	defer f.Close()
	buf := make([]byte, 1<<20+4096)
	skip := -uintptr(unsafe.Pointer(&buf[0])) & 4095
	if n, err := f.Read(buf[skip:][:1<<20]); n != 1<<20 || err != nil {
		return 2
	}
	return 0
}

// flatV2 are the flat keyed files and where their keys go, as in
// github.com/containerd/cgroups/v3/cgroup2/stats/metrics.proto.
var flatV2 = map[string]map[string]string{
	"cpu.stat": {"usage_usec": "2.1", "user_usec": "2.2", "system_usec": "2.3", "nr_periods": "2.4", "nr_throttled": "2.5", "throttled_usec": "2.6"},
	"memory.stat": {
		"anon": "4.1", "file": "4.2", "kernel_stack": "4.3", "slab": "4.4", "sock": "4.5", "shmem": "4.6", "file_mapped": "4.7",
		"inactive_anon": "4.11", "active_anon": "4.12", "inactive_file": "4.13", "active_file": "4.14", "slab_reclaimable": "4.16",
		"slab_unreclaimable": "4.17", "pgfault": "4.18", "pgmajfault": "4.19", "pgscan": "4.24", "pgsteal": "4.25", "thp_fault_alloc": "4.30",
	},
	"memory.events": {"low": "8.1", "high": "8.2", "max": "8.3", "oom": "8.4", "oom_kill": "8.5", "oom_group_kill": "8.6"},
}

// singleV2 are the files of one number.
var singleV2 = map[string]string{
	"pids.current": "1.1", "pids.max": "1.2", "memory.current": "4.32", "memory.max": "4.33",
	"memory.swap.current": "4.34", "memory.swap.max": "4.35", "memory.peak": "4.36",
}

// expectV2 reads the files of a cgroup directory independently of the code:
// field path to its value. Files and keys that this kernel lacks are left out.
func expectV2(t testing.TB, dir string) map[string]any {
	t.Helper()
	expect := map[string]any{}
	for name, fields := range flatV2 {
		for line := range strings.Lines(readText(t, filepath.Join(dir, name))) {
			key, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			if path, ok := fields[key]; ok {
				n, err := strconv.Atoi(text)
				if err != nil {
					t.Fatal(err)
				}
				expect[path] = n
			}
		}
	}
	for name, path := range singleV2 {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if number := strings.TrimSpace(string(text)); number == "max" {
			expect[path] = uint64(math.MaxUint64)
		} else if expect[path], err = strconv.Atoi(number); err != nil {
			t.Fatal(err)
		}
	}
	return expect
}

// checkV2 compares Stats with the files of dir once those stand still: the
// kernel brings some of them up to date seconds later.
func checkV2(t testing.TB, c *Cgroup, dir string) map[string][]any {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		before := expectV2(t, dir)
		m := statsOf(t, c)
		if !maps.Equal(before, expectV2(t, dir)) {
			if time.Now().After(deadline) {
				t.Fatal("the files of the cgroup do not stand still")
			}
			continue
		}
		for path, v := range before {
			want(t, m, path, v)
		}
		if len(before) < 25 {
			t.Errorf("only %d fields could be compared", len(before))
		}
		return m
	}
}

// Every file that Stats reads is there, and what it says arrives.
func TestStatsV2Host(t *testing.T) {
	g := newGroupV2(t, "cpu.stat", "memory.stat", "io.stat", "pids.max", "memory.events", "hugetlb.2MB.max", "memory.pressure")
	g.write(Unified, "memory.max", "67108864")
	g.write(Unified, "cpu.max", "20000 100000")
	g.write(Unified, "hugetlb.2MB.max", "4194304")
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	c := mustOpen(t, p.Process.Pid)
	if loc := c.Location(); loc.Version != V2 || len(loc.Dirs) != 1 {
		t.Errorf("Location() = %+v", loc)
	}
	m := statsOf(t, c)
	want(t, m, "1.2", uint64(math.MaxUint64))
	if number(t, m, "1.1") == 0 {
		t.Error("a cgroup with a process has no pids")
	}
	g.write(Unified, "pids.max", "321")
	if disk := os.Getenv(diskVariable); disk != "" {
		reader := start(t, "reader")
		g.add(reader.Process.Pid, "")
		reader.act()
		if err := reader.Wait(); err != nil {
			t.Fatalf("read %s: %v", disk, err)
		}
		m := statsOf(t, c)
		if number(t, m, "6.1.1") == 0 || number(t, m, "6.1.3") < 1<<20 || number(t, m, "6.1.5") == 0 {
			t.Errorf("1 MiB was read, but io.stat has %v", m)
		}
	} else if os.Getenv(laneVariable) != "" {
		t.Error("this lane promises a disk")
	}
	if err := c.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	p.killed()
	m = checkV2(t, c, g.dirs[Unified])
	want(t, m, "1.2", 321)
	want(t, m, "4.33", 67108864)
	want(t, m, "8", "{}")
	for _, psi := range []string{"2.7.1", "2.7.2", "4.38.1", "4.38.2", "6.2.1", "6.2.2"} {
		want(t, m, psi, "{}")
	}
	found := false
	for i, size := range m["7.3"] {
		found = found || size == "2MB" && m["7.2"][i] == uint64(4194304)
	}
	if !found {
		t.Errorf("hugetlb has sizes %v with limits %v", m["7.3"], m["7.2"])
	}
	if number(t, m, "2.1") == 0 || number(t, m, "4.18") == 0 {
		t.Error("a process has run without CPU time or page faults")
	}
}

// A hog dies by its limit: the watch tells it, the counter explains the exit at
// once, and both Stats and OOMKills know it after the cgroup has gone.
func TestOOMV2(t *testing.T) {
	g := newGroupV2(t, "memory.max")
	g.limit()
	hog := start(t, "hog")
	g.add(hog.Process.Pid, "")
	c := mustOpen(t, hog.Process.Pid)
	kills := make(chan uint64, 8)
	w, err := c.WatchOOM(func(n uint64) { kills <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	hog.act()
	hog.killed()
	if n, err := c.OOMKills(); n != 1 || err != nil {
		t.Errorf("OOMKills() = %d, %v after the exit, want 1", n, err)
	}
	if n := receive(t, kills); n != 1 {
		t.Errorf("told of %d kills, want 1", n)
	}
	want(t, statsOf(t, c), "8.5", 1)

	again := start(t, "hog")
	g.add(again.Process.Pid, "")
	again.act()
	again.killed()
	if n := receive(t, kills); n != 2 {
		t.Errorf("told of %d kills, want 2", n)
	}
	if err := c.Remove(bounded(t)); err != nil {
		t.Fatal(err)
	}
	m := statsOf(t, c)
	want(t, m, "8.5", 2)
	want(t, m, "4") // no counters that look as if they had fallen
	if n, err := c.OOMKills(); n != 2 || err != nil {
		t.Errorf("OOMKills() = %d, %v after the removal, want 2", n, err)
	}
	if _, err := c.WatchOOM(func(uint64) {}); err == nil {
		t.Error("a removed cgroup can be watched")
	}
}

// The kernel tells nobody of the removal of an empty cgroup: Close ends the watch.
func TestWatchOfRemovedV2(t *testing.T) {
	g := newGroupV2(t, "memory.max")
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	c := mustOpen(t, p.Process.Pid)
	w, err := c.WatchOOM(func(n uint64) { t.Errorf("told of %d kills", n) })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.killed()
	removeNow(t, g.dirs[Unified])
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-w.done:
	default:
		t.Error("Close returned before the watch had ended")
	}
}

// limit makes a hog die soon.
func (g *group) limit() {
	g.t.Helper()
	g.write(Unified, "memory.max", "16777216")
	if _, err := os.Stat(filepath.Join(g.dirs[Unified], "memory.swap.max")); err == nil {
		g.write(Unified, "memory.swap.max", "0")
	}
}

// A watch that begins after the kill tells of it; and memory.oom.group counts.
func TestWatchBegunLateV2(t *testing.T) {
	g := newGroupV2(t, "memory.max", "memory.oom.group")
	g.limit()
	g.write(Unified, "memory.oom.group", "1")
	hog, other := start(t, "hog"), start(t, "idle")
	g.add(hog.Process.Pid, "")
	g.add(other.Process.Pid, "")
	c := mustOpen(t, hog.Process.Pid)
	hog.act()
	hog.killed()
	other.killed()
	kills := make(chan uint64, 1)
	w, err := c.WatchOOM(func(n uint64) { kills <- n })
	if err != nil {
		t.Fatal(err)
	}
	// The kernel counts the victim that it picked, then each member of the group.
	if n := receive(t, kills); n != 3 && n != 2 {
		t.Errorf("told of %d kills, want those of 2 processes", n)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	want(t, statsOf(t, c), "8.6", 1)
}

// pod makes a pod's cgroup with the memory controller for those below, and one
// container's in it.
func (g *group) pod() (container string) {
	g.t.Helper()
	g.write(Unified, "cgroup.subtree_control", "+memory")
	container = filepath.Join(g.dirs[Unified], "container")
	if err := os.Mkdir(container, 0o755); err != nil {
		g.t.Fatal(err)
	}
	inner := &group{t: g.t, dirs: map[string]string{Unified: container}}
	inner.limit()
	return container
}

// A manager may remove an empty cgroup before anybody has read it: the pod's
// counter answers.
func TestUnreadKillV2(t *testing.T) {
	g := newGroupV2(t, "memory.max")
	container := g.pod()
	hog := start(t, "hog")
	g.add(hog.Process.Pid, "container")
	c := mustOpen(t, hog.Process.Pid)
	hog.act()
	hog.killed()
	removeNow(t, container)
	if n, err := c.OOMKills(); n != 1 || err != nil {
		t.Errorf("OOMKills() = %d, %v, want 1", n, err)
	}
	want(t, statsOf(t, c), "8.5", 1)
}

// removeNow removes a cgroup as another program would. A process that has been
// reaped has left it.
func removeNow(t testing.TB, dir string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := unix.Rmdir(dir)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// The kernel tells of the last death through cgroup.events, on which Kill and
// the OOM watch rely.
func TestLastDeathIsToldV2(t *testing.T) {
	g := newGroupV2(t, "memory.max")
	g.limit()
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	c := mustOpen(t, p.Process.Pid)
	w, err := c.watchFiles("cgroup.events")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Read(make([]byte, 512)); err != nil {
		t.Errorf("the last death was not told: %v", err)
	}
	if populated, err := c.populated(); populated || err != nil {
		t.Errorf("populated() = %v, %v", populated, err)
	}
}

// Reads of a removed cgroup end with ENODEV, and nothing in it can be done.
func TestRemovedV2(t *testing.T) {
	g := newGroupV2(t, "memory.max", "cgroup.kill")
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	c := mustOpen(t, p.Process.Pid)
	if err := c.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	p.killed()
	if err := c.Remove(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pread(c.fds[v2MemoryEvents], make([]byte, 512), 0); !errors.Is(err, unix.ENODEV) {
		t.Errorf("read of memory.events gave %v, want ENODEV", err)
	}
	if frozen, err := c.Frozen(); frozen || err != nil {
		t.Errorf("Frozen() = %v, %v", frozen, err)
	}
	if _, err := Load(c.Location()); !errdefs.IsNotFound(err) {
		t.Errorf("Load gave %v, want NotFound", err)
	}
	for name, call := range map[string]func() error{
		"Kill": func() error { return c.Kill(bounded(t)) }, "Remove": func() error { return c.Remove(bounded(t)) }, "Thaw": c.Thaw,
	} {
		if err := call(); err != nil {
			t.Errorf("%s of a removed cgroup: %v", name, err)
		}
	}
}
