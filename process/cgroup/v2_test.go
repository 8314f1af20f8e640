// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

const scopeV2 = "/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-c1.scope"

// handWritten opens the v2 tree of testdata in which each number is another, or
// a copy of it that the test may change.
func handWritten(t testing.TB, root string) *Cgroup {
	t.Helper()
	c, err := view{root}.open(42)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func copied(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/made")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestStatsV2(t *testing.T) {
	c := handWritten(t, "testdata/made")
	if got := c.Location(); got.Version != V2 || len(got.Dirs) != 1 || got.Dirs[Unified].Path != scopeV2 || got.Dirs[Unified].Shared {
		t.Errorf("Location() = %+v", got)
	}
	m := statsOf(t, c)
	want(t, m, "1.1", 7)
	want(t, m, "1.2", 100)
	for field, v := range []int{1: 1234567, 1000000, 234567, 321, 21, 987654, 0, 2, 345} {
		if field != 0 && field != 7 {
			want(t, m, "2."+string(rune('0'+field)), v)
		}
	}
	for _, psi := range []string{"2.7", "4.38"} {
		want(t, m, psi+".1.1", 1.53)
		want(t, m, psi+".1.2", 0.87)
		want(t, m, psi+".1.3", 0.20)
		want(t, m, psi+".1.4", 1157622)
		want(t, m, psi+".2.1")
		want(t, m, psi+".2.2", 0.07)
		want(t, m, psi+".2.3", 12.0)
		want(t, m, psi+".2.4", 1009912)
	}
	want(t, m, "6.2.1", "{}")
	want(t, m, "6.2.2", "{}")
	memory := []any{
		4325376, 12161024, 98304, 1038544, 4096, 8192, 6488064, 135168, 24576, 2097152,
		4120576, 208896, 7299072, 4861952, 16384, 728392, 310152, 30721, 77, 0, 0, 5, 401, 2143, 1987, 1502, 388, 11, 9, 3, 1,
		19263488, 268435456, 0, uint64(math.MaxUint64), 20971520, 4096,
	}
	for i, v := range memory {
		want(t, m, "4."+itoa(i+1), v)
	}
	want(t, m, "5.1.1", "mlx4_0", "ocrdma1")
	want(t, m, "5.1.2", 2, 1)
	want(t, m, "5.1.3", 2000)
	want(t, m, "5.2.1", "mlx4_0", "ocrdma1")
	want(t, m, "5.2.2", 3, math.MaxUint32)
	want(t, m, "5.2.3", math.MaxUint32, 2500)
	want(t, m, "6.1", "{}", "{}")
	want(t, m, "6.1.1", 8, 8)
	want(t, m, "6.1.2", 16) // 8:0 has no minor on the wire
	want(t, m, "6.1.3", 1459200, 90430464)
	want(t, m, "6.1.4", 314773504, 299008000)
	want(t, m, "6.1.5", 192, 8950)
	want(t, m, "6.1.6", 353, 1252)
	want(t, m, "7.3", "1GB", "2MB")
	want(t, m, "7.1", 2097152)
	want(t, m, "7.2", 1073741824, uint64(math.MaxUint64))
	want(t, m, "7.4", 6)
	for i, v := range []int{1, 2, 11, 2, 1, 0} {
		want(t, m, "8."+itoa(i+1), v)
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func TestPidsV2(t *testing.T) {
	c := handWritten(t, "testdata/made")
	if got, err := c.Pids(); err != nil || !slices.Equal(got, []int{4242, 4243, 4250}) {
		t.Errorf("Pids() = %v, %v", got, err)
	}
	// Another process, which is elsewhere, trusts what the opener has seen.
	loc := c.Location()
	loc.Dirs[Unified] = Dir{Path: scopeV2, Shared: true}
	shared, err := view{"testdata/made"}.load(loc, c.mounts)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	if _, err := shared.Pids(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Pids of a shared cgroup gave %v, want FailedPrecondition", err)
	}
	root, err := view{"testdata/made"}.open(7)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := root.Pids(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Pids of the root cgroup gave %v, want FailedPrecondition", err)
	}
}

// Files as a kernel wrote them: scripts/v2/run capture makes them anew.
func TestStatsV2Captured(t *testing.T) {
	const root = "testdata/v2"
	paths, err := filepath.Glob(root + "/proc/[0-9]*/cgroup")
	if err != nil || len(paths) != 2 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		c, err := view{root}.open(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		loc := c.Location()
		if pid == 2 { // a thread of the kernel
			if !loc.Dirs[Unified].Shared {
				t.Error("the root cgroup is not shared")
			}
			continue
		}
		if loc.Version != V2 || len(loc.Dirs) != 1 || loc.Dirs[Unified].Path != scopeV2 || loc.Dirs[Unified].Shared {
			t.Errorf("Location() = %+v", loc)
		}
		if pids, err := c.Pids(); err != nil || len(pids) != 3 || pids[0] != pid {
			t.Errorf("Pids() = %v, %v, want that of the init, a second and a nested process", pids, err)
		}
		m := checkV2(t, c, root+scopeV2)
		for _, path := range []string{"2.4", "4.24", "6.1.1", "6.1.3", "6.1.4", "6.1.5", "6.1.6", "7.1", "7.4", "8.2", "8.5"} {
			if number(t, m, path) == 0 {
				t.Errorf("field %s is 0", path)
			}
		}
		if got, want := number(t, m, "6.1.3"), lookupIO(t, root+scopeV2, "rbytes"); got != want {
			t.Errorf("%d bytes were read, want %d", got, want)
		}
	}
}

// lookupIO reads a key of io.stat's only line.
func lookupIO(t testing.TB, dir, key string) uint64 {
	t.Helper()
	for _, pair := range strings.Fields(readText(t, filepath.Join(dir, "io.stat"))) {
		if text, ok := strings.CutPrefix(pair, key+"="); ok {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("io.stat has no %s", key)
	return 0
}

// A controller that is not enabled has no files; its part stays empty.
func TestStatsV2WithoutControllers(t *testing.T) {
	root := copied(t)
	entries, err := filepath.Glob(filepath.Join(root, scopeV2, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range entries {
		if base := filepath.Base(path); base != "cpu.stat" && base[:6] != "cgroup" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := handWritten(t, root)
	m := statsOf(t, c)
	want(t, m, "2.1", 1234567)
	want(t, m, "4", "{}")
	for _, absent := range []string{"1", "8", "7", "2.7", "5.1"} {
		want(t, m, absent)
	}
	if _, err := c.OOMKills(); !errdefs.IsNotImplemented(err) {
		t.Errorf("OOMKills gave %v, want NotImplemented", err)
	}
	if _, err := c.WatchOOM(func(uint64) {}); !errdefs.IsNotImplemented(err) {
		t.Errorf("WatchOOM gave %v, want NotImplemented", err)
	}
}

// The watch sees each rise of memory.events, and kills before it began.
func TestWatchOOMV2(t *testing.T) {
	root := copied(t)
	c := handWritten(t, root)
	events := filepath.Join(root, scopeV2, "memory.events")
	overwrite(t, events, "low 0\nhigh 0\nmax 1\noom 1\noom_kill 3\noom_group_kill 0\n")
	kills := make(chan uint64, 8)
	w, err := c.WatchOOM(func(n uint64) { kills <- n })
	if err != nil {
		t.Fatal(err)
	}
	if got := receive(t, kills); got != 3 {
		t.Errorf("first notification has %d kills, want 3", got)
	}
	overwrite(t, events, "low 0\nhigh 0\nmax 1\noom 1\noom_kill 5\noom_group_kill 0\n")
	if got := receive(t, kills); got != 5 {
		t.Errorf("second notification has %d kills, want 5", got)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	want(t, statsOf(t, c), "8.5", 5)
}

// A panic in the watch ends the watch, and not the program with all its other
// containers. The counter is read all the same.
func TestPanicOfTheWatch(t *testing.T) {
	root := copied(t)
	c := handWritten(t, root)
	events := filepath.Join(root, scopeV2, "memory.events")
	entered := make(chan struct{})
	w, err := c.WatchOOM(func(uint64) { // called once: a second close would panic, too
		close(entered)
		panic("a test's, of who is told")
	})
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, events, "low 0\nhigh 0\nmax 1\noom 1\noom_kill 1000\noom_group_kill 0\n")
	<-entered
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if n, err := c.OOMKills(); err != nil || n != 1000 {
		t.Errorf("OOMKills() = %d, %v", n, err)
	}
}

// After Close nobody is in notify, nor will be.
func TestWatchCloseWaits(t *testing.T) {
	root := copied(t)
	c := handWritten(t, root)
	overwrite(t, filepath.Join(root, scopeV2, "memory.events"), "low 1\nhigh 2\nmax 11\noom 2\noom_kill 8\noom_group_kill 0\n")
	entered, leave := make(chan struct{}), make(chan struct{})
	w, err := c.WatchOOM(func(uint64) {
		close(entered)
		<-leave
		for range 100_000 { // give a Close that does not wait time to return
			runtime.Gosched()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	go func() {
		for w.events.SetReadDeadline(time.Time{}) == nil { // until Close has closed it
			runtime.Gosched()
		}
		close(leave)
	}()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-w.done:
	default:
		t.Error("Close returned while notify was running")
	}
	<-leave
}

// overwrite changes a file in place in one write: the numbers have one width.
func overwrite(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// The parent's counter answers, once, for kills that nobody read in time.
func TestParentExplainsUnreadKills(t *testing.T) {
	root := copied(t)
	c := handWritten(t, root)
	if n, err := c.OOMKills(); n != 1 || err != nil {
		t.Fatalf("OOMKills() = %d, %v", n, err)
	}
	if got := c.finish(6); got.oomKill != 3 || !got.gone { // 4 at the last reading
		t.Errorf("final counters are %+v, want 1 + 2 kills", got)
	}
	if got := c.finish(9); got.oomKill != 3 {
		t.Errorf("later kills of the pod were added: %+v", got)
	}
	if got := c.keep(counters{valid: true, oomKill: 7}); got.oomKill != 3 {
		t.Errorf("a late reading changed the final counters: %+v", got)
	}
}
