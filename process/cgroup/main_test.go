// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/shelter"
)

// roleVariable makes the test binary one of the processes that tests put in
// cgroups.
const roleVariable = "BERTH_CGROUP_TEST_ROLE"

// prefix names the cgroups of this test process alone: others may run beside it.
var prefix = fmt.Sprintf("berth-cgroup-test-%d-", os.Getpid())

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	os.Exit(shelter.Main(func() int { return run(m) }))
}

func run(m *testing.M) int {
	code := m.Run()
	if left := leftCgroups(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "cgroups left behind:", left)
		code = 1
	}
	if fds := strayFDs(); len(fds) > 0 {
		fmt.Fprintln(os.Stderr, "descriptors left open:", fds)
		code = 1
	}
	return code
}

// selfLocation is where the test itself is.
func selfLocation() (Location, error) {
	mounts, err := view{}.mounts()
	if err != nil {
		return Location{}, err
	}
	return view{}.locate("self", mounts)
}

// nursery is the directory in which the groups of tests are made: the test's own
// cgroup; on a v2 host the one above, for a cgroup that holds processes cannot
// give controllers to its children (cgroup-v2.rst, "No Internal Process
// Constraint").
func nursery(version Version, dir Dir) string {
	if version != V2 || dir.Shared {
		return dir.Path
	}
	return filepath.Dir(dir.Path)
}

// leftCgroups finds this test's directories in any hierarchy.
func leftCgroups() []string {
	loc, err := selfLocation()
	if err != nil {
		return nil
	}
	var left []string
	for _, dir := range loc.Dirs {
		_ = filepath.WalkDir(nursery(loc.Version, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), prefix) {
				left = append(left, path)
			}
			return nil
		})
	}
	return left
}

// strayFDs finds open cgroup files, pidfds, eventfds and inotify descriptors.
func strayFDs() []string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var stray []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue
		}
		for _, kind := range []string{prefix, "pidfd", "inotify"} {
			if strings.Contains(target, kind) {
				stray = append(stray, e.Name()+" -> "+target)
			}
		}
	}
	return stray
}

// play is the other side of start. A role waits for a line on its input, so
// that it acts only once it is in its cgroup.
func play(role string) int {
	in := bufio.NewReader(os.Stdin)
	switch role {
	case "idle": // waits to be killed, or for its test to go away
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, in)
		return 1
	case "hog": // takes memory until it is killed
		fmt.Println("ready")
		if _, err := in.ReadString('\n'); err != nil {
			return 1
		}
		var kept [][]byte
		for {
			block := make([]byte, 1<<20)
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
			kept = append(kept, block)
			if len(kept) > 1024 {
				return 2 // no limit here
			}
		}
	case "reader": // reads 1 MiB of a disk past the page cache, and ends
		fmt.Println("ready")
		if _, err := in.ReadString('\n'); err != nil {
			return 1
		}
		return readDisk(os.Getenv(diskVariable))
	case "bomb": // forks until it is killed, and each child does the same
		fmt.Println("ready")
		if os.Getenv("BERTH_CGROUP_TEST_CHILD") == "" {
			if _, err := in.ReadString('\n'); err != nil {
				return 1
			}
		}
		for {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "BERTH_CGROUP_TEST_CHILD=1", "GOMAXPROCS=1")
			cmd.Stdin, cmd.Stdout = nil, nil
			_ = cmd.Start()
		}
	}
	return 1
}

// group is a set of real cgroups of one test, one per hierarchy.
type group struct {
	t    testing.TB
	dirs map[string]string
}

// newGroup makes a cgroup in the nursery of each hierarchy that keep accepts,
// and removes them at the end of the test.
func newGroup(t testing.TB, keep func(controller string) bool) *group {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make cgroups")
	}
	loc, err := selfLocation()
	if err != nil {
		t.Skipf("needs a mounted cgroup hierarchy: %v", err)
	}
	g := &group{t: t, dirs: map[string]string{}}
	name := prefix + strings.NewReplacer("/", "-", "#", "-").Replace(t.Name())
	for controller, dir := range loc.Dirs {
		if !keep(controller) {
			continue
		}
		path := filepath.Join(nursery(loc.Version, dir), name)
		if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		g.dirs[controller] = path
	}
	t.Cleanup(g.remove)
	g.inheritCPUs()
	return g
}

// inheritCPUs makes a cpuset usable: a new one has no CPUs and takes no process.
func (g *group) inheritCPUs() {
	dir, ok := g.dirs["cpuset"]
	if !ok {
		return
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			g.t.Fatal(err)
		}
		g.write("cpuset", name, strings.TrimSpace(string(text)))
	}
}

// remove is independent of the code under test.
func (g *group) remove() {
	for _, dir := range g.dirs {
		var below []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				below = append(below, path)
			}
			return nil
		})
		slices.Reverse(below)
		for _, path := range below {
			if err := unix.Rmdir(path); err != nil && err != unix.ENOENT {
				g.t.Errorf("remove %s: %v", path, err)
			}
		}
	}
}

func (g *group) write(controller, name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dirs[controller], name), []byte(text), 0); err != nil {
		g.t.Fatal(err)
	}
}

// add moves a process into the group, or into a group below it.
func (g *group) add(pid int, below string) {
	g.t.Helper()
	for _, dir := range g.dirs {
		path := filepath.Join(dir, below, "cgroup.procs")
		if err := os.WriteFile(path, []byte(strconv.Itoa(pid)), 0); err != nil {
			g.t.Fatal(err)
		}
	}
}

// actor is a process of a test.
type actor struct {
	*exec.Cmd
	t  testing.TB
	in io.WriteCloser
}

// start runs a role outside any group, waits until it is ready, and reaps it at
// the end.
func start(t testing.TB, role string) *actor {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "GOMAXPROCS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &actor{cmd, t, in}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("role %s said %q, %v", role, line, err)
	}
	return a
}

// act lets the role act.
func (a *actor) act() {
	a.t.Helper()
	if _, err := io.WriteString(a.in, "go\n"); err != nil {
		a.t.Fatal(err)
	}
}

// killed reaps the actor and checks that SIGKILL ended it.
func (a *actor) killed() {
	a.t.Helper()
	_ = a.Wait()
	status, ok := a.ProcessState.Sys().(interface{ Signaled() bool })
	if !ok || !status.Signaled() {
		a.t.Errorf("process ended as %v, want killed", a.ProcessState)
	}
}

// laneVariable says what the environment promises: "v2" is a host with cgroup v2
// alone, all controllers and a disk. What is missing there fails a test.
const laneVariable = "BERTH_LANE"

// lacks skips a test on a host that lacks what it needs.
func lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(laneVariable) == string(V2) {
		t.Fatalf("needs %s, which this lane promises", what)
	}
	t.Skipf("needs %s", what)
}

// newGroupV2 is newGroup on a v2 host whose cgroups have the files.
func newGroupV2(t testing.TB, files ...string) *group {
	t.Helper()
	g := newGroup(t, unified)
	if loc, err := selfLocation(); err != nil || loc.Version != V2 {
		lacks(t, "a host with cgroup v2")
	}
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(g.dirs[Unified], name)); err != nil {
			lacks(t, "the v2 file "+name+" in "+filepath.Dir(g.dirs[Unified]))
		}
	}
	return g
}

func all(string) bool                { return true }
func unified(controller string) bool { return controller == Unified }
func onlyV1(controller string) bool  { return controller != Unified }
