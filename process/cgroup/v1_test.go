// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// needsV1 skips where a v1 controller is missing.
func needsV1(t testing.TB, g *group, controllers ...string) {
	t.Helper()
	for _, controller := range controllers {
		if _, ok := g.dirs[controller]; !ok {
			t.Skipf("needs the v1 %s controller", controller)
		}
	}
}

func receive(t testing.TB, kills <-chan uint64) uint64 {
	t.Helper()
	select {
	case n := <-kills:
		return n
	case <-time.After(20 * time.Second):
		t.Fatal("no OOM notification")
		return 0
	}
}

// file reads one number of the group's files, independently of the code.
func (g *group) file(controller, name string) uint64 {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dirs[controller], name))
	if err != nil {
		g.t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

func TestStatsV1(t *testing.T) {
	g := newGroup(t, all)
	needsV1(t, g, "memory", "pids", "cpu", "cpuacct", "blkio")
	g.write("memory", "memory.limit_in_bytes", "67108864")
	g.write("memory", "memory.kmem.tcp.limit_in_bytes", "4194304")
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	c := mustOpen(t, p.Process.Pid)
	m := statsOf(t, c)
	want(t, m, "2.1", int(g.file("pids", "pids.current")))
	want(t, m, "2.2", 0) // "max"
	g.write("pids", "pids.max", "321")
	want(t, m, "4.33.1", 67108864)
	want(t, m, "4.36.1", 4194304)
	want(t, m, "4.16", 67108864)
	want(t, m, "9", "{}")
	for _, path := range []string{"3.1", "3.2", "4.33", "4.34", "4.35", "4.36", "5"} {
		want(t, m, path, "{}")
	}

	// Use something of everything, and compare with the files afterwards, when
	// they no longer change.
	if err := c.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	p.killed()
	m = statsOf(t, c)
	want(t, m, "2.2", 321)
	want(t, m, "3.1.1", int(g.file("cpuacct", "cpuacct.usage")))
	perCPU := strings.Fields(readText(t, filepath.Join(g.dirs["cpuacct"], "cpuacct.usage_percpu")))
	if len(m["3.1.4"]) != len(perCPU) || len(perCPU) < runtime.NumCPU() {
		t.Errorf("per-CPU times %v, want %v", m["3.1.4"], perCPU)
	}
	for i, text := range perCPU {
		if n, _ := strconv.ParseUint(text, 10, 64); m["3.1.4"][i] != n {
			t.Errorf("CPU %d has %v, want %d", i, m["3.1.4"][i], n)
		}
	}
	times := strings.Fields(readText(t, filepath.Join(g.dirs["cpuacct"], "cpuacct.stat")))
	for i, path := range map[int]string{1: "3.1.3", 3: "3.1.2"} {
		ticks, _ := strconv.Atoi(times[i])
		want(t, m, path, ticks*10_000_000)
	}
	want(t, m, "4.33.3", int(g.file("memory", "memory.max_usage_in_bytes")))
	want(t, m, "4.33.4", int(g.file("memory", "memory.failcnt")))
	checkMemoryStat(t, g, m)
}

func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkMemoryStat compares counters that stand still when nobody runs.
func checkMemoryStat(t *testing.T, g *group, m map[string][]any) {
	t.Helper()
	keys := map[string]string{"pgpgin": "4.7", "pgpgout": "4.8", "pgfault": "4.9", "total_pgfault": "4.26", "total_cache": "4.18", "hierarchical_memory_limit": "4.16"}
	for line := range strings.Lines(readText(t, filepath.Join(g.dirs["memory"], "memory.stat"))) {
		key, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path, ok := keys[key]; ok {
			n, _ := strconv.Atoi(text)
			want(t, m, path, n)
			delete(keys, key)
		}
	}
	if len(keys) != 0 {
		t.Errorf("memory.stat has no %v", keys)
	}
}

// A hog dies by its limit: the watch tells it, the counter explains the exit at
// once, and both Stats and OOMKills know it after the cgroup has gone.
func TestOOMV1(t *testing.T) {
	g := newGroup(t, all)
	needsV1(t, g, "memory")
	g.write("memory", "memory.limit_in_bytes", "16777216")
	hog := start(t, "hog")
	g.add(hog.Process.Pid, "")
	c := mustOpen(t, hog.Process.Pid)
	kills := make(chan uint64, 8)
	w, err := c.WatchOOM(func(n uint64) { kills <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if n, err := c.OOMKills(); n != 0 || err != nil {
		t.Fatalf("OOMKills() = %d, %v before", n, err)
	}
	hog.act()
	hog.killed()
	if n, err := c.OOMKills(); n != 1 || err != nil {
		t.Errorf("OOMKills() = %d, %v after the exit, want 1", n, err)
	}
	if n := receive(t, kills); n != 1 {
		t.Errorf("told of %d kills, want 1", n)
	}
	want(t, statsOf(t, c), "9.3", 1)

	// A second kill is told too.
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
	select {
	case <-w.done: // the removal ends the watch
	case <-time.After(20 * time.Second):
		t.Error("the watch outlives its cgroup")
	}
	m := statsOf(t, c)
	want(t, m, "9.3", 2)
	want(t, m, "4") // no counters that look as if they had fallen
	if n, err := c.OOMKills(); n != 2 || err != nil {
		t.Errorf("OOMKills() = %d, %v after the removal, want 2", n, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n, err := c.OOMKills(); n != 2 || err != nil {
		t.Errorf("OOMKills() = %d, %v after Close, want 2", n, err)
	}
	if _, _, err := c.Stats(nil); !errdefs.IsNotFound(err) {
		t.Errorf("Stats after Close gave %v, want NotFound", err)
	}
}

// A kill that nobody has read before the removal is still known: Remove takes
// the last reading itself.
func TestRemoveKeepsCounters(t *testing.T) {
	g := newGroup(t, func(controller string) bool { return controller == "memory" })
	needsV1(t, g, "memory")
	g.write("memory", "memory.limit_in_bytes", "16777216")
	hog := start(t, "hog")
	g.add(hog.Process.Pid, "")
	c := mustOpen(t, hog.Process.Pid)
	hog.act()
	hog.killed()
	if err := c.Remove(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.OOMKills(); n != 1 || err != nil {
		t.Errorf("OOMKills() = %d, %v, want 1", n, err)
	}
}

// The watch must not have been what read the counter: a watch begun late tells
// of the kills since Open.
func TestWatchBegunLate(t *testing.T) {
	g := newGroup(t, func(controller string) bool { return controller == "memory" })
	needsV1(t, g, "memory")
	g.write("memory", "memory.limit_in_bytes", "16777216")
	hog := start(t, "hog")
	g.add(hog.Process.Pid, "")
	c := mustOpen(t, hog.Process.Pid)
	hog.act()
	hog.killed()
	kills := make(chan uint64, 1)
	w, err := c.WatchOOM(func(n uint64) { kills <- n })
	if err != nil {
		t.Fatal(err)
	}
	if n := receive(t, kills); n != 1 {
		t.Errorf("told of %d kills, want 1", n)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// A removal that is noticed half way leaves no half answer.
func TestStatsHalfRemoved(t *testing.T) {
	g := newGroup(t, func(controller string) bool { return controller == "pids" || controller == "cpuacct" })
	needsV1(t, g, "pids", "cpuacct")
	loc := Location{Version: V1, Dirs: map[string]Dir{"pids": {Path: g.dirs["pids"]}, "cpuacct": {Path: g.dirs["cpuacct"]}}}
	c, err := Load(loc)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want(t, statsOf(t, c), "3", "{}")
	if err := os.Remove(g.dirs["pids"]); err != nil {
		t.Fatal(err)
	}
	if m := statsOf(t, c); len(m) != 0 {
		t.Errorf("answer after the removal is %v, want none", m)
	}
}

// Files that no process of a test fills: a kernel with CFQ, huge pages, and CPU
// time beyond a tick.
func TestStatsV1HandWritten(t *testing.T) {
	const mountinfo = "31 30 0:29 / /cg rw - cgroup cgroup rw,cpuacct,blkio,hugetlb,memory\n"
	v := tree(t, mountinfo, map[string]string{"self": "1:cpuacct:/s\n", "9": "1:cpuacct,blkio,hugetlb,memory:/c\n"}, "/cg/c")
	for name, text := range map[string]string{
		"cg/c/cpuacct.stat": "user 12\nsystem 3\n", "cg/c/cpuacct.usage": "150000001\n", "cg/c/cpuacct.usage_percpu": "0 150000001 \n",
		"cg/c/blkio.io_service_bytes_recursive": "8:0 Read 7\nTotal 7\n", "cg/c/blkio.time_recursive": "8:0 9\n",
		"cg/c/blkio.throttle.io_serviced": "8:0 Read 99\n", "proc/partitions": "major minor  #blocks  name\n\n   8        0   1000 sda\n",
		"cg/c/hugetlb.2MB.usage_in_bytes": "2097152\n", "cg/c/hugetlb.2MB.max_usage_in_bytes": "4194304\n", "cg/c/hugetlb.2MB.failcnt": "5\n",
		"cg/c/hugetlb.2MB.rsvd.usage_in_bytes": "1\n", "cg/c/memory.oom_control": "oom_kill_disable 1\nunder_oom 1\noom_kill 4\n",
	} {
		if err := os.WriteFile(filepath.Join(v.root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := v.open(9)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := statsOf(t, c)
	want(t, m, "3.1.1", 150000001)
	want(t, m, "3.1.2", 30_000_000)
	want(t, m, "3.1.3", 120_000_000)
	want(t, m, "3.1.4", 0, 150000001)
	want(t, m, "5.1.1", "Read")
	want(t, m, "5.1.2", "/dev/sda")
	want(t, m, "5.1.5", 7)
	want(t, m, "5.7.5", 9)
	want(t, m, "5.2") // the scheduler's files had entries
	want(t, m, "1", "{}")
	want(t, m, "1.1", 2097152)
	want(t, m, "1.2", 4194304)
	want(t, m, "1.3", 5)
	want(t, m, "1.4", "2MB")
	want(t, m, "9.1", 1)
	want(t, m, "9.2", 1)
	want(t, m, "9.3", 4)
}

// The unified hierarchy of a hybrid host stands in for v2: its files end with
// ENODEV too, and the snapshot answers.
func TestStatsV2AfterRemoval(t *testing.T) {
	g := newGroup(t, unified)
	needs(t, g)
	c, err := Load(Location{Version: V2, Dirs: map[string]Dir{Unified: {Path: g.dirs[Unified]}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := statsOf(t, c)
	want(t, m, "2", "{}")
	c.keep(counters{valid: true, oomKill: 2, max: 3})
	if err := c.Remove(bounded(t)); err != nil {
		t.Fatal(err)
	}
	m = statsOf(t, c)
	want(t, m, "8.5", 2)
	want(t, m, "8.3", 3)
	want(t, m, "2")
}

// Calls race with Close and with each other.
func TestConcurrentUse(t *testing.T) {
	g := newGroup(t, all)
	needs(t, g)
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	c := mustOpen(t, p.Process.Pid)
	var wg sync.WaitGroup
	begun := make(chan struct{}, 4)
	for range 4 {
		wg.Go(func() {
			var buf []byte
			for i := 0; ; i++ {
				var err error
				if buf, _, err = c.Stats(buf[:0]); errdefs.IsNotFound(err) {
					return
				} else if err != nil || len(buf) == 0 {
					t.Errorf("Stats gave %d bytes, %v", len(buf), err)
					return
				}
				if i == 50 {
					begun <- struct{}{}
				}
				c.Snapshot()
			}
		})
	}
	for range 4 {
		<-begun
	}
	if err := c.Kill(bounded(t)); err != nil {
		t.Error(err)
	}
	c.Close()
	wg.Wait()
}

func TestBlkioEntries(t *testing.T) {
	const partitions = "major minor  #blocks  name\n\n 254        0  268435456 vda\n   8        0   1000 sda\n   8        0   1000 again\n"
	const text = "8:0 Read 4096\n8:0 Total 4096\n254:0 17\n9:9 Sync 1\nTotal 4113\nbad\n"
	m, err := decode(appendBlkioEntries(nil, []byte(text), []byte(partitions), 1), []string{"1.1", "1.2"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, m, "1.1", "Read", "Total", "Sync")
	want(t, m, "1.2", "/dev/sda", "/dev/sda", "/dev/vda")
	want(t, m, "1.3", 8, 8, 254, 9)
	want(t, m, "1.4", 9)
	want(t, m, "1.5", 4096, 4096, 17, 1)
}

func TestParseNumber(t *testing.T) {
	for text, want := range map[string]uint64{"0\n": 0, "12\n": 12, " 7 ": 7, "-1": 0, "max\n": 1<<64 - 1, "18446744073709551615": 1<<64 - 1} {
		if got, ok := parseNumber([]byte(text), maxIsMax); !ok || got != want {
			t.Errorf("%q is %d, %v, want %d", text, got, ok, want)
		}
	}
	if got, ok := parseNumber([]byte("max"), maxIsZero); !ok || got != 0 {
		t.Errorf("max is %d, %v on v1, want 0", got, ok)
	}
	for _, text := range []string{"", "-", "x", "1x", "18446744073709551616", "99999999999999999999999"} {
		if got, ok := parseNumber([]byte(text), maxIsMax); ok {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}

func TestParseStat(t *testing.T) {
	for text, want := range map[string][2]string{
		"12 (sh) S 1 2": {"sh", "S"}, "12 (a) R (b) D 1": {"a) R (b", "D"}, "": {"?", "?"}, ")(": {"?", "?"}, "1 (x)": {"x", "?"},
	} {
		if comm, state := parseStat([]byte(text)); comm != want[0] || state != want[1] {
			t.Errorf("%q is %q %q, want %q", text, comm, state, want)
		}
	}
}

func TestStatsAllocations(t *testing.T) {
	g := newGroup(t, all)
	needs(t, g)
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	for name, c := range map[string]*Cgroup{"v1": mustOpen(t, p.Process.Pid), "v2": handWritten(t, "testdata/made")} {
		buf := make([]byte, 0, 8<<10)
		got := testing.AllocsPerRun(100, func() {
			if _, _, err := c.Stats(buf); err != nil {
				t.Fatal(err)
			}
		})
		if got > 2 {
			t.Errorf("%s: %v allocations a call, want none worth naming", name, got)
		}
	}
}

func BenchmarkStats(b *testing.B) {
	run := func(c *Cgroup) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 8<<10)
			for b.Loop() {
				if _, _, err := c.Stats(buf); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	g := newGroup(b, all)
	needs(b, g)
	p := start(b, "idle")
	g.add(p.Process.Pid, "")
	b.Run("v1", run(mustOpen(b, p.Process.Pid)))
	b.Run("v2-files", run(handWritten(b, "testdata/made")))
}
