// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/cgroup"
	"berth/sandbox"
)

// Run runs every test on hosts of its own.
func Run(t *testing.T, newHost func(*testing.T) Host) {
	for _, test := range []struct {
		name string
		run  func(*Pod)
	}{
		{"Exit", testExit},
		{"Output", testOutput},
		{"Input", testInput},
		{"Exec", testExec},
		{"Terminal", testTerminal},
		{"ExecTerminal", testExecTerminal},
		{"Signal", testSignal},
		{"KillAll", testKillAll},
		{"InitEndsExecs", testInitEndsExecs},
		{"DeleteCreated", testDeleteCreated},
		{"NoSuchProgram", testNoSuchProgram},
		{"NoSuchExec", testNoSuchExec},
		{"Pause", testPause},
		{"Stats", testStats},
		{"Update", testUpdate},
		{"OOM", testOOM},
		{"Neighbours", testNeighbours},
		{"SlowReader", testSlowReader},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(NewPod(t, newHost(t))) })
	}
}

func testExit(r *Pod) {
	b := r.Box("a", "exit 7").Run()
	if exit := b.Wait(""); exit.Status != 7 || !exit.Known {
		r.Errorf("exit %+v, want a known 7", exit)
	}
	b.Delete("")
	b.Expect("create", "start", "exit=7", "delete")
}

// All that was written is there when Delete has returned, each stream's own.
func testOutput(r *Pod) {
	c := r.client("a", false)
	b := r.Box("a", "echo out; echo err >&2; head -c 3000000 /dev/zero; exit 0")
	b.stdio = c.Stdio
	b.Run().Wait("")
	b.Delete("")
	c.finish()
	if out := c.out.String(); len(out) != 4+3000000 || !strings.HasPrefix(out, "out\n") {
		r.Errorf("%d bytes of stdout, want 3000004", len(out))
	}
	if c.err.String() != "err\n" {
		r.Errorf("stderr %q", c.err.String())
	}
}

// Twenty megabytes go in and out, and the end of the input is seen.
func testInput(r *Pod) {
	const size = 20 << 20
	c := r.client("a", false)
	b := r.Box("a", "cat")
	b.stdio = c.Stdio
	b.Run()
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	if _, err := c.stdin.Write(sent); err != nil {
		r.Fatal(err)
	}
	c.stdin.Close()
	r.must(b.C.CloseStdin(""))
	if exit := b.Wait(""); exit.Status != 0 {
		r.Errorf("exit %+v", exit)
	}
	b.Delete("")
	c.finish()
	if got := c.out.String(); got != string(sent) {
		r.Errorf("%d bytes came back, want the %d that were sent", len(got), size)
	}
}

func testExec(r *Pod) {
	b := r.Box("a", "sleep 1000").Run()
	c := r.client("e", false)
	b.Exec("e", "cat; echo $A; exit 3", c.Stdio)
	if _, err := c.stdin.WriteString("hello\n"); err != nil {
		r.Fatal(err)
	}
	c.stdin.Close()
	r.must(b.C.CloseStdin("e"))
	if exit := b.Wait("e"); exit.Status != 3 || !exit.Known {
		r.Errorf("exit %+v, want a known 3", exit)
	}
	b.Delete("e")
	c.finish()
	if c.out.String() != "hello\n\n" {
		r.Errorf("stdout %q", c.out.String())
	}
	r.must(b.C.Kill(r.ctx(), "", unix.SIGKILL, false))
	b.Wait("")
	b.Delete("")
	b.Expect("create", "start", "added:e", "started:e", "exit:e=3", "exit=137", "delete")
}

// terminalScript waits for a line before it looks at its terminal.
const terminalScript = `read x; stty size; test -t 0 && test -t 2 && echo "$x is a tty"`

func (r *Pod) checkTerminal(c *client) {
	r.Helper()
	c.finish()
	if out := c.out.String(); !strings.Contains(out, "33 77\r\n") || !strings.Contains(out, "it is a tty\r\n") {
		r.Errorf("terminal: %q", out)
	}
}

func testTerminal(r *Pod) {
	c := r.client("a", true)
	b := r.Box("a", terminalScript)
	b.stdio = c.Stdio
	b.Run()
	r.must(b.C.Resize("", 77, 33))
	if _, err := c.stdin.WriteString("it\n"); err != nil {
		r.Fatal(err)
	}
	b.Wait("")
	b.Delete("")
	r.checkTerminal(c)
}

func testExecTerminal(r *Pod) {
	b := r.Box("a", "sleep 1000").Run()
	c := r.client("e", true)
	b.Exec("e", terminalScript, c.Stdio)
	r.must(b.C.Resize("e", 77, 33))
	if _, err := c.stdin.WriteString("it\n"); err != nil {
		r.Fatal(err)
	}
	b.Wait("e")
	b.Delete("e")
	r.checkTerminal(c)
}

func testSignal(r *Pod) {
	c := r.client("a", false)
	b := r.Box("a", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")
	b.stdio = c.Stdio
	b.Run()
	r.line(c)
	r.must(b.C.Kill(r.ctx(), "", unix.SIGTERM, false))
	if exit := b.Wait(""); exit.Status != 5 {
		r.Errorf("exit %+v, want that of the trap", exit)
	}
	if err := b.C.Kill(r.ctx(), "", unix.SIGTERM, false); !errdefs.IsNotFound(err) {
		r.Errorf("signal after the exit: %v", err)
	}
	b.Delete("")
}

// line waits for a line of output, which shows that a script has come so far.
// The script writes no more afterwards.
func (r *Pod) line(c *client) {
	r.Helper()
	r.until("a line of output", func() bool { return strings.Contains(c.sofar(), "\n") })
}

func testKillAll(r *Pod) {
	b := r.Box("a", "sleep 1000 & sleep 1000 & wait").Run()
	b.Exec("e", "sleep 1000", process.Stdio{})
	r.must(b.C.Kill(r.ctx(), "", unix.SIGKILL, true))
	if exit := b.Wait(""); exit.Status != 137 {
		r.Errorf("exit %+v", exit)
	}
	b.Delete("")
	b.Expect("create", "start", "added:e", "started:e", "exit:e=137", "exit=137", "delete")
}

// An exec that would outlive the init is ended with it, and told of first. It
// is out of the init's PID namespace's reach only on a kernel of its own.
func testInitEndsExecs(r *Pod) {
	c := r.client("a", false)
	b := r.Box("a", "read x; exit 4")
	b.stdio = c.Stdio
	b.Run()
	b.Exec("e", "sleep 1000", process.Stdio{})
	if _, err := c.stdin.WriteString("go\n"); err != nil {
		r.Fatal(err)
	}
	b.Wait("")
	b.Delete("")
	b.Expect("create", "start", "added:e", "started:e", "exit:e=137", "exit=4", "delete")
}

func testDeleteCreated(r *Pod) {
	b := r.Box("a", "exit 0").Create()
	b.Delete("")
	b.Expect("create", "exit=137", "delete")
	if pid, err := r.pod.Container(b.ID); err == nil {
		r.Errorf("it is still there: %v", pid)
	}
}

// A create that fails leaves nothing: the same one, put right, succeeds.
func testNoSuchProgram(r *Pod) {
	b := r.Box("a", "")
	b.spec.Process.Args = []string{"/bin/none"}
	err := b.TryCreate()
	if err == nil {
		r.Fatal("a program that does not exist was created")
	}
	if !strings.Contains(err.Error(), "/bin/none") {
		r.Errorf("the error does not name the program: %v", err)
	}
	b.Expect()
	b.spec.Process = shell("exit 2")
	b.Run().Wait("")
	b.Delete("")
	b.Expect("create", "start", "exit=2", "delete")
}

func testNoSuchExec(r *Pod) {
	b := r.Box("a", "sleep 1000").Run()
	spec := []byte(`{"args":["/bin/none"],"cwd":"/","env":["PATH=/bin"]}`)
	r.must(b.C.Exec(sandbox.ExecRequest{ID: "e", Process: spec}))
	if _, err := b.C.Start(r.ctx(), "e"); err == nil || !strings.Contains(err.Error(), "/bin/none") {
		r.Errorf("start of an exec without a program: %v", err)
	}
	b.Delete("e")
	b.Expect("create", "start", "added:e")
}

func testPause(r *Pod) {
	b := r.Box("a", "sleep 1000").Run()
	r.must(b.C.Pause(r.ctx()))
	if st, err := b.C.Status(""); err != nil || st.State != sandbox.Paused {
		r.Errorf("status %+v, %v", st, err)
	}
	r.must(b.C.Resume(r.ctx()))
	r.must(b.C.Pause(r.ctx()))
	r.must(b.C.Kill(r.ctx(), "", unix.SIGKILL, false)) // a paused one dies too
	if exit := b.Wait(""); exit.Status != 137 {
		r.Errorf("exit %+v", exit)
	}
	b.Delete("")
	b.Expect("create", "start", "paused", "resumed", "paused", "exit=137", "delete")
}

func testStats(r *Pod) {
	b := r.Box("a", "sleep 1000").Run()
	metrics, kind, err := b.C.Stats(nil)
	r.must(err)
	if kind != cgroup.TypeURLV1 && kind != cgroup.TypeURLV2 || len(metrics) == 0 {
		r.Errorf("%d bytes of %q", len(metrics), kind)
	}
	st, err := b.C.Status("")
	r.must(err)
	pids, err := b.C.Pids()
	r.must(err)
	if !slices.Contains(pids, sandbox.Pid{Pid: st.Pid}) {
		r.Errorf("pids %v, without the init's %d", pids, st.Pid)
	}
	if err := unix.Kill(st.Pid, 0); err != nil {
		r.Errorf("pid %d is not a process of this kernel: %v", st.Pid, err)
	}
}

func testUpdate(r *Pod) {
	b := r.Box("a", "sleep 1000").Run()
	r.must(b.C.Update(r.ctx(), []byte(`{"memory":{"limit":67108864}}`)))
	if err := b.C.Update(r.ctx(), []byte(`{"memory":{"limit":"much"}}`)); err == nil {
		r.Error("a limit that is no number was taken")
	}
}

func testOOM(r *Pod) {
	b := r.Box("a", "tail /dev/zero")
	limit := int64(32 << 20)
	b.spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	b.Run()
	if exit := b.Wait(""); exit.Status != 137 {
		r.Errorf("exit %+v", exit)
	}
	b.Delete("")
	b.Expect("create", "start", "oom", "exit=137", "delete")
}

func testNeighbours(r *Pod) {
	var all sync.WaitGroup
	boxes := make([]*Box, 4)
	for i := range boxes {
		boxes[i] = r.Box(fmt.Sprint(i), fmt.Sprintf("exit %d", i+1))
	}
	for _, b := range boxes {
		all.Go(func() { b.Run().Wait("") })
	}
	all.Wait()
	for i, b := range boxes {
		b.Delete("")
		b.Expect("create", "start", fmt.Sprintf("exit=%d", i+1), "delete")
	}
}

// A client that does not read holds up its own process, and nobody else's.
func testSlowReader(r *Pod) {
	deaf := r.Box("deaf", "head -c 4000000 /dev/zero; exit 9")
	deaf.stdio.Stdout = r.fifo("deaf.out")
	reader := r.reader(deaf.stdio.Stdout)
	deaf.Run()
	c := r.client("b", false)
	b := r.Box("b", "head -c 2000000 /dev/zero")
	b.stdio = c.Stdio
	b.Run().Wait("")
	b.Delete("")
	c.finish()
	if c.out.Len() != 2000000 {
		r.Errorf("%d bytes of the other's output", c.out.Len())
	}
	if st, err := deaf.C.Status(""); err != nil || st.State != sandbox.Running {
		r.Fatalf("it has not been held up: %+v, %v", st, err)
	}
	got := r.drain(reader)
	if exit := deaf.Wait(""); exit.Status != 9 {
		r.Errorf("exit %+v", exit)
	}
	deaf.Delete("")
	if n := <-got; n != 4000000 {
		r.Errorf("%d bytes once it was read", n)
	}
}
