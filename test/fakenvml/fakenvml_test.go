// SPDX-License-Identifier: Apache-2.0

package fakenvml

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/test/leak"
)

// mig is the program of testdata, linked with the library.
var mig string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fakenvml-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	lib, err := Build(dir)
	header, headerErr := headerDir()
	mig = filepath.Join(dir, "mig")
	if err := errors.Join(err, headerErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out, err := exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-isystem", header, "-o", mig,
		"testdata/mig.c", lib, "-Wl,-rpath,"+dir).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return leak.Main(m)
}

// run runs the program on a state and returns its lines.
func run(t *testing.T, state string, words ...string) []string {
	t.Helper()
	cmd := exec.Command(mig, words...)
	cmd.Env = []string{"BERTH_FAKE_NVML=" + state}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func stateFile(t *testing.T, s State) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := s.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// machine has one GPU with MIG on.
func machine(model Model) State {
	s := Machine(model, 1)
	s.GPUs[0].MIG, s.GPUs[0].Pending = true, true
	return s
}

const (
	notSupported, noPermission, notFound, inUse, insufficient = "3", "4", "6", "19", "23"
)

func TestMIG(t *testing.T) {
	busy := machine(H200)
	busy.GPUs[0].Instances = []Instance{{ID: 0, Profile: 0, Compute: []Compute{{Profile: 4, UUID: "MIG-x"}}}}
	busy.Processes = []Process{{PID: os.Getpid(), Bytes: 1 << 30}}
	idle := busy
	idle.Processes = []Process{{PID: 1 << 29, Bytes: 1 << 30}} // beyond pid_max: not alive
	off := Machine(H200, 1)
	for _, c := range []struct {
		name  string
		state State
		run   string // word -> line, as "word: line; ..."
	}{
		{"placements", machine(H200), "places=19: 0 0:1 1:1 2:1 3:1 4:1 5:1 6:1; places=20: 0 0:1 1:1 2:1 3:1 4:1 5:1 6:1; " +
			"places=15: 0 0:2 2:2 4:2 6:2; places=14: 0 0:2 2:2 4:2; places=9: 0 0:4 4:4; places=5: 0 0:4; places=0: 0 0:8; places=7: 3"},
		{"placements with MIG off", off, "places=9: 0 0:4 4:4; gi=9: " + notSupported},
		{"no MIG", Machine(T4, 1), "mode=1: 3 status 0; places=9: " + notSupported},
		{"seven of the smallest", machine(A100), "gi=19: 0 gi 7 at 6:1; gi=19@0: 0 gi 8 at 0:1; gi=19@1: 0 gi 9 at 1:1; " +
			"gi=19@1: " + insufficient + "; free=19: 0 free 4; free=9: 0 free 0; free=14: 0 free 2"},
		{"memory slices run out", machine(H100), "gi=9@0: 0 gi 1 at 0:4; gi=9@4: 0 gi 2 at 4:4; free=19: 0 free 0; gi=19: " + insufficient},
		{"all compute slices in three sizes", machine(H100), "gi=5: 0 gi 1 at 0:4; gi=14@4: 0 gi 3 at 4:2; gi=19@6: 0 gi 7 at 6:1; free=19: 0 free 0; free=15: 0 free 0"},
		{"one with media engines", machine(A10040), "gi=20@2: 0 gi 7 at 2:1; gi=20: " + insufficient + "; free=20: 0 free 0; free=19: 0 free 6"},
		{"a place that is none", machine(A100), "gi=14@1: 2; gi=9@2: 2; gi=0@0: 0 gi 0 at 0:8"},
		{"ids are given again", machine(A100), "gi=14@0: 0 gi 3 at 0:2; gi=14@2: 0 gi 4 at 2:2; rmgi=3: 0; gi=14@4: 0 gi 3 at 4:2; rmgi=9: " + notFound},
		{"compute instances", machine(H200), "gi=9@4: 0 gi 1 at 4:4; ci=1/1: 0 ci 0 at 0:2 found; ci=1/0: 0 ci 1 at 2:1 found; ci=1/0: " + insufficient +
			"; rmgi=1: " + inUse + "; rmci=1/0: 0; ci=1/2: " + insufficient + "; ci=1/3: " + notSupported + "; rmci=1/1: 0; rmgi=1: 0; free=0: 0 free 1"},
		{"in use", busy, "rmci=0/0: " + inUse + "; rmgi=0: " + inUse + "; mode=0: 0 status 19"},
		{"its user has gone", idle, "rmci=0/0: 0; rmgi=0: 0; mode=0: 0 status 0; gi=0: " + notSupported},
		{"Ampere needs a reset", Machine(A100, 1), "mode=1: 0 status 16; gi=19: " + notSupported},
		{"Hopper needs none", off, "mode=1: 0 status 0; gi=0: 0 gi 0 at 0:8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := stateFile(t, c.state)
			for _, step := range strings.Split(c.run, "; ") {
				word, line, _ := strings.Cut(step, ": ")
				if got := run(t, path, word); got[0] != line { // each by a process of its own
					t.Errorf("%s gave %q, want %q", word, got, line)
				}
			}
		})
	}
}

func TestMIGWithoutRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root is missing: nobody cannot become nobody")
	}
	path := stateFile(t, machine(H200))
	for dir := filepath.Dir(path); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"0", noPermission, noPermission, noPermission + " free 0", noPermission + " status 0"}
	if got := run(t, path, "user", "gi=19@0", "places=19", "free=19", "mode=0"); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What the library wrote is what Read reads and Write writes.
func TestStateRoundTrip(t *testing.T) {
	s := machine(H200)
	s.GPUs = append(s.GPUs, Machine(T4, 2).GPUs[1])
	s.Processes = []Process{{GPU: 0, PID: 4711, Bytes: 5, GI: -1, CI: -1}}
	s.Nodes, s.Latency = Majors{195, 508}, 1
	s.Rules = []Rule{{Delay, "nvmlInit_v2", 1, -1}, {Exit, "nvmlShutdown", 3, 1}, {Lie, "nvmlShutdown", 3, 1}}
	path := stateFile(t, s)
	run(t, path, "gi=9@4", "ci=1/2")
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	uuid := got.GPUs[0].Instances[0].Compute[0].UUID
	if !regexp.MustCompile(`^MIG-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(uuid) {
		t.Errorf("its UUID is %s", uuid)
	}
	s.GPUs[0].Instances = []Instance{{ID: 1, Profile: 9, Start: 4, Compute: []Compute{{Profile: 2, UUID: uuid}}}}
	if !reflect.DeepEqual(got, s) {
		t.Errorf("read\n%+v\nwant\n%+v", got, s)
	}
	before, _ := os.ReadFile(path)
	if err := got.Write(path); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Errorf("the library wrote\n%s\nand Go\n%s", before, after)
	}
}

// Processes that create at once lose nothing of each other's.
func TestManyCreateAtOnce(t *testing.T) {
	write := slices.Repeat([]string{"mode=1"}, 50) // changes nothing, but writes the whole state
	for range 10 {
		path := stateFile(t, machine(A100))
		var wg sync.WaitGroup
		for i := range 8 {
			words := slices.Concat(write, []string{"gi=19", fmt.Sprintf("gi=19@%d", i%7)}, write)
			wg.Go(func() { run(t, path, words...) })
		}
		wg.Wait()
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		ids, starts := map[int]bool{}, map[int]bool{}
		for _, gi := range got.GPUs[0].Instances {
			ids[gi.ID], starts[gi.Start] = true, true
		}
		if len(ids) != 7 || len(starts) != 7 {
			t.Fatalf("seven fit: %+v", got.GPUs[0].Instances)
		}
	}
}

// The process dies when the work is done: what it made is there, as after a crash of a client.
func TestExitAfter(t *testing.T) {
	s := machine(A100)
	s.Rules = []Rule{{Exit, "nvmlDeviceCreateGpuInstanceWithPlacement", 7, -1}}
	path := stateFile(t, s)
	cmd := exec.Command(mig, "gi=9@0", "gi=9@4")
	cmd.Env = []string{"BERTH_FAKE_NVML=" + path}
	out, _ := cmd.CombinedOutput()
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.GPUs[0].Instances); n != 1 || cmd.ProcessState.ExitCode() != 7 || len(out) != 0 {
		t.Errorf("%d instances, exit status %d, output %q", n, cmd.ProcessState.ExitCode(), out)
	}
}

// A crash is by SIGKILL after the N-th call of the process, whatever it is.
func TestCrash(t *testing.T) {
	for n := 1; ; n++ {
		s := machine(A100)
		s.Rules = []Rule{{Crash, AnyCall, n, -1}}
		path := stateFile(t, s)
		cmd := exec.Command(mig, "mode=1", "gi=0@0") // init, handle, mode, places, create, info, shutdown
		cmd.Env = []string{"BERTH_FAKE_NVML=" + path}
		_ = cmd.Run()
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if made := len(got.GPUs[0].Instances) == 1; made != (n >= 5) || (cmd.ProcessState.ExitCode() == 0) != (n > 7) {
			t.Errorf("killed at call %d: %v, made %v", n, cmd.ProcessState, made)
		}
		if n > 7 {
			return
		}
	}
}

func TestThief(t *testing.T) {
	s := machine(A100)
	s.Rules = []Rule{{Thief, "nvmlDeviceCreateGpuInstanceWithPlacement", 1, -1}}
	path := stateFile(t, s)
	if got := run(t, path, "gi=9@4", "gi=9@0"); !reflect.DeepEqual(got, []string{insufficient, "0 gi 2 at 0:4"}) {
		t.Errorf("%q", got)
	}
	if got, err := Read(path); err != nil || len(got.GPUs[0].Instances) != 2 || len(got.GPUs[0].Instances[0].Compute) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBadStateIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, line := range []string{"gpu h300 GPU-x 0000:01:00.0 0 0 0 0", "gi 0 1 9 0", "nonsense", "fault nvmlInit_v2"} {
		if err := os.WriteFile(path, []byte("driver 1\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(run(t, path), ""); !strings.Contains(got, "cannot read the line "+line) {
			t.Errorf("%s: %q", line, got)
		}
	}
	if got := strings.Join(run(t, path+".gone"), ""); !strings.Contains(got, "open "+path+".gone") {
		t.Errorf("no state: %q", got)
	}
}

// What the kernel shows of instances comes and goes with them.
func TestCapabilities(t *testing.T) {
	s := machine(H200)
	s.GPUs[0].Minor, s.Caps = 2, t.TempDir()
	mig := filepath.Join(s.Caps, "gpu2", "mig")
	if err := os.MkdirAll(mig, 0o755); err != nil {
		t.Fatal(err)
	}
	path := stateFile(t, s)
	for _, c := range []struct{ word, want string }{
		{"gi=9@4", "gi1/access 282"},
		{"ci=1/2", "gi1/access 282, gi1/ci0/access 283"},
		{"gi=14@0", "gi1/access 282, gi1/ci0/access 283, gi3/access 300"},
		{"rmci=1/0", "gi1/access 282, gi3/access 300"},
		{"rmgi=1", "gi3/access 300"},
		{"rmgi=3", ""},
	} {
		if got := run(t, path, c.word); !strings.HasPrefix(got[0], "0") {
			t.Fatalf("%s gave %q", c.word, got)
		}
		var shown []string
		for _, pattern := range []string{"gi*/access", "gi*/ci*/access"} {
			files, err := filepath.Glob(filepath.Join(mig, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				var minor int
				if _, err := fmt.Sscanf(string(text), "DeviceFileMinor: %d\n", &minor); err != nil {
					t.Fatal(err)
				}
				shown = append(shown, fmt.Sprintf("%s %d", strings.TrimPrefix(file, mig+"/"), minor))
			}
		}
		slices.Sort(shown)
		if got := strings.Join(shown, ", "); got != c.want {
			t.Errorf("after %s: %s, want %s", c.word, got, c.want)
		}
	}
	if left, err := os.ReadDir(mig); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
