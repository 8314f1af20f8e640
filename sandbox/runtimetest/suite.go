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
		run  func(*rig)
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
		t.Run(test.name, func(t *testing.T) { test.run(newRig(t, newHost(t))) })
	}
}

func testExit(r *rig) {
	b := r.box("a", "exit 7").run()
	if exit := b.wait(""); exit.Status != 7 || !exit.Known {
		r.Errorf("exit %+v, want a known 7", exit)
	}
	b.delete("")
	b.expect("create", "start", "exit=7", "delete")
}

// All that was written is there when Delete has returned, each stream's own.
func testOutput(r *rig) {
	c := r.client("a", false)
	b := r.box("a", "echo out; echo err >&2; head -c 3000000 /dev/zero; exit 0")
	b.stdio = c.Stdio
	b.run().wait("")
	b.delete("")
	c.finish()
	if out := c.out.String(); len(out) != 4+3000000 || !strings.HasPrefix(out, "out\n") {
		r.Errorf("%d bytes of stdout, want 3000004", len(out))
	}
	if c.err.String() != "err\n" {
		r.Errorf("stderr %q", c.err.String())
	}
}

// Twenty megabytes go in and out, and the end of the input is seen.
func testInput(r *rig) {
	const size = 20 << 20
	c := r.client("a", false)
	b := r.box("a", "cat")
	b.stdio = c.Stdio
	b.run()
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	if _, err := c.stdin.Write(sent); err != nil {
		r.Fatal(err)
	}
	c.stdin.Close()
	r.must(b.c.CloseStdin(""))
	if exit := b.wait(""); exit.Status != 0 {
		r.Errorf("exit %+v", exit)
	}
	b.delete("")
	c.finish()
	if got := c.out.String(); got != string(sent) {
		r.Errorf("%d bytes came back, want the %d that were sent", len(got), size)
	}
}

func testExec(r *rig) {
	b := r.box("a", "sleep 1000").run()
	c := r.client("e", false)
	b.exec("e", "cat; echo $A; exit 3", c.Stdio)
	if _, err := c.stdin.WriteString("hello\n"); err != nil {
		r.Fatal(err)
	}
	c.stdin.Close()
	r.must(b.c.CloseStdin("e"))
	if exit := b.wait("e"); exit.Status != 3 || !exit.Known {
		r.Errorf("exit %+v, want a known 3", exit)
	}
	b.delete("e")
	c.finish()
	if c.out.String() != "hello\n\n" {
		r.Errorf("stdout %q", c.out.String())
	}
	r.must(b.c.Kill(r.ctx(), "", unix.SIGKILL, false))
	b.wait("")
	b.delete("")
	b.expect("create", "start", "added:e", "started:e", "exit:e=3", "exit=137", "delete")
}

// terminalScript waits for a line before it looks at its terminal.
const terminalScript = `read x; stty size; test -t 0 && test -t 2 && echo "$x is a tty"`

func (r *rig) checkTerminal(c *client) {
	r.Helper()
	c.finish()
	if out := c.out.String(); !strings.Contains(out, "33 77\r\n") || !strings.Contains(out, "it is a tty\r\n") {
		r.Errorf("terminal: %q", out)
	}
}

func testTerminal(r *rig) {
	c := r.client("a", true)
	b := r.box("a", terminalScript)
	b.stdio = c.Stdio
	b.run()
	r.must(b.c.Resize("", 77, 33))
	if _, err := c.stdin.WriteString("it\n"); err != nil {
		r.Fatal(err)
	}
	b.wait("")
	b.delete("")
	r.checkTerminal(c)
}

func testExecTerminal(r *rig) {
	b := r.box("a", "sleep 1000").run()
	c := r.client("e", true)
	b.exec("e", terminalScript, c.Stdio)
	r.must(b.c.Resize("e", 77, 33))
	if _, err := c.stdin.WriteString("it\n"); err != nil {
		r.Fatal(err)
	}
	b.wait("e")
	b.delete("e")
	r.checkTerminal(c)
}

func testSignal(r *rig) {
	c := r.client("a", false)
	b := r.box("a", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")
	b.stdio = c.Stdio
	b.run()
	r.line(c)
	r.must(b.c.Kill(r.ctx(), "", unix.SIGTERM, false))
	if exit := b.wait(""); exit.Status != 5 {
		r.Errorf("exit %+v, want that of the trap", exit)
	}
	if err := b.c.Kill(r.ctx(), "", unix.SIGTERM, false); !errdefs.IsNotFound(err) {
		r.Errorf("signal after the exit: %v", err)
	}
	b.delete("")
}

// line waits for a line of output, which shows that a script has come so far.
// The script writes no more afterwards.
func (r *rig) line(c *client) {
	r.Helper()
	r.until("a line of output", func() bool { return strings.Contains(c.sofar(), "\n") })
}

func testKillAll(r *rig) {
	b := r.box("a", "sleep 1000 & sleep 1000 & wait").run()
	b.exec("e", "sleep 1000", process.Stdio{})
	r.must(b.c.Kill(r.ctx(), "", unix.SIGKILL, true))
	if exit := b.wait(""); exit.Status != 137 {
		r.Errorf("exit %+v", exit)
	}
	b.delete("")
	b.expect("create", "start", "added:e", "started:e", "exit:e=137", "exit=137", "delete")
}

// An exec that would outlive the init is ended with it, and told of first. It
// is out of the init's PID namespace's reach only on a kernel of its own.
func testInitEndsExecs(r *rig) {
	c := r.client("a", false)
	b := r.box("a", "read x; exit 4")
	b.stdio = c.Stdio
	b.run()
	b.exec("e", "sleep 1000", process.Stdio{})
	if _, err := c.stdin.WriteString("go\n"); err != nil {
		r.Fatal(err)
	}
	b.wait("")
	b.delete("")
	b.expect("create", "start", "added:e", "started:e", "exit:e=137", "exit=4", "delete")
}

func testDeleteCreated(r *rig) {
	b := r.box("a", "exit 0").create()
	b.delete("")
	b.expect("create", "exit=137", "delete")
	if pid, err := r.pod.Container(b.id); err == nil {
		r.Errorf("it is still there: %v", pid)
	}
}

// A create that fails leaves nothing: the same one, put right, succeeds.
func testNoSuchProgram(r *rig) {
	b := r.box("a", "")
	b.spec.Process.Args = []string{"/bin/none"}
	err := b.tryCreate()
	if err == nil {
		r.Fatal("a program that does not exist was created")
	}
	if !strings.Contains(err.Error(), "/bin/none") {
		r.Errorf("the error does not name the program: %v", err)
	}
	b.expect()
	b.spec.Process = shell("exit 2")
	b.run().wait("")
	b.delete("")
	b.expect("create", "start", "exit=2", "delete")
}

func testNoSuchExec(r *rig) {
	b := r.box("a", "sleep 1000").run()
	spec := []byte(`{"args":["/bin/none"],"cwd":"/","env":["PATH=/bin"]}`)
	r.must(b.c.Exec(sandbox.ExecRequest{ID: "e", Process: spec}))
	if _, err := b.c.Start(r.ctx(), "e"); err == nil || !strings.Contains(err.Error(), "/bin/none") {
		r.Errorf("start of an exec without a program: %v", err)
	}
	b.delete("e")
	b.expect("create", "start", "added:e")
}

func testPause(r *rig) {
	b := r.box("a", "sleep 1000").run()
	r.must(b.c.Pause(r.ctx()))
	if st, err := b.c.Status(""); err != nil || st.State != sandbox.Paused {
		r.Errorf("status %+v, %v", st, err)
	}
	r.must(b.c.Resume(r.ctx()))
	r.must(b.c.Pause(r.ctx()))
	r.must(b.c.Kill(r.ctx(), "", unix.SIGKILL, false)) // a paused one dies too
	if exit := b.wait(""); exit.Status != 137 {
		r.Errorf("exit %+v", exit)
	}
	b.delete("")
	b.expect("create", "start", "paused", "resumed", "paused", "exit=137", "delete")
}

func testStats(r *rig) {
	b := r.box("a", "sleep 1000").run()
	metrics, kind, err := b.c.Stats(nil)
	r.must(err)
	if kind != cgroup.TypeURLV1 && kind != cgroup.TypeURLV2 || len(metrics) == 0 {
		r.Errorf("%d bytes of %q", len(metrics), kind)
	}
	st, err := b.c.Status("")
	r.must(err)
	pids, err := b.c.Pids()
	r.must(err)
	if !slices.Contains(pids, sandbox.Pid{Pid: st.Pid}) {
		r.Errorf("pids %v, without the init's %d", pids, st.Pid)
	}
	if err := unix.Kill(st.Pid, 0); err != nil {
		r.Errorf("pid %d is not a process of this kernel: %v", st.Pid, err)
	}
}

func testUpdate(r *rig) {
	b := r.box("a", "sleep 1000").run()
	r.must(b.c.Update(r.ctx(), []byte(`{"memory":{"limit":67108864}}`)))
	if err := b.c.Update(r.ctx(), []byte(`{"memory":{"limit":"much"}}`)); err == nil {
		r.Error("a limit that is no number was taken")
	}
}

func testOOM(r *rig) {
	b := r.box("a", "tail /dev/zero")
	limit := int64(32 << 20)
	b.spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	b.run()
	if exit := b.wait(""); exit.Status != 137 {
		r.Errorf("exit %+v", exit)
	}
	b.delete("")
	b.expect("create", "start", "oom", "exit=137", "delete")
}

func testNeighbours(r *rig) {
	var all sync.WaitGroup
	boxes := make([]*box, 4)
	for i := range boxes {
		boxes[i] = r.box(fmt.Sprint(i), fmt.Sprintf("exit %d", i+1))
	}
	for _, b := range boxes {
		all.Go(func() { b.run().wait("") })
	}
	all.Wait()
	for i, b := range boxes {
		b.delete("")
		b.expect("create", "start", fmt.Sprintf("exit=%d", i+1), "delete")
	}
}

// A client that does not read holds up its own process, and nobody else's.
func testSlowReader(r *rig) {
	deaf := r.box("deaf", "head -c 4000000 /dev/zero; exit 9")
	deaf.stdio.Stdout = r.fifo("deaf.out")
	reader := r.reader(deaf.stdio.Stdout)
	deaf.run()
	c := r.client("b", false)
	b := r.box("b", "head -c 2000000 /dev/zero")
	b.stdio = c.Stdio
	b.run().wait("")
	b.delete("")
	c.finish()
	if c.out.Len() != 2000000 {
		r.Errorf("%d bytes of the other's output", c.out.Len())
	}
	if st, err := deaf.c.Status(""); err != nil || st.State != sandbox.Running {
		r.Fatalf("it has not been held up: %+v, %v", st, err)
	}
	got := r.drain(reader)
	if exit := deaf.wait(""); exit.Status != 9 {
		r.Errorf("exit %+v", exit)
	}
	deaf.delete("")
	if n := <-got; n != 4000000 {
		r.Errorf("%d bytes once it was read", n)
	}
}
