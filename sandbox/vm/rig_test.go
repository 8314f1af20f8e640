// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/process"
	"berth/sandbox/vm/image"
)

// limit is how long a test waits for what must happen. Nothing is expected to
// take it: it is there to turn a hang into a failure.
const limit = 60 * time.Second

// tester is the user that the tests' machines run as.
const tester = 1_900_000_000

// rig boots machines and sees to it that they end.
type rig struct {
	*testing.T
	ctx   context.Context
	sup   *process.Supervisor
	image image.Image
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: machines are put into namespaces and cgroups")
	}
	if os.Getenv("BERTH_GUEST") == "" {
		t.Skip("guests are booted by make test-vm (BERTH_GUEST)")
	}
	img, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	r := &rig{T: t, ctx: ctx, sup: process.NewSupervisor(), image: img}
	t.Cleanup(func() {
		cancel()
		r.sup.Close()
	})
	return r
}

// config is that of a small machine.
func (r *rig) config() Config {
	self, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	return Config{
		ID: "test", Supervisor: r.sup, Image: r.image, Accel: []Accel{TCG}, MemoryMiB: 160, CPUs: 1,
		QEMU: qemu, Virtiofsd: virtiofsd, Launcher: []string{self, launcher},
		UID: tester, GID: tester,
	}
}

// boot starts a machine, which is closed at the end of the test.
func (r *rig) boot(c Config) *Machine {
	r.Helper()
	m, err := Boot(r.ctx, c)
	if err != nil {
		r.Fatal(err)
	}
	r.closes(m)
	return m
}

// closes has the machine closed at the end of the test.
func (r *rig) closes(m *Machine) {
	r.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			r.Error(err)
		}
		if r.Failed() {
			r.Logf("console:\n%s\nmonitor:\n%s", m.Console(), m.log.Bytes())
		}
	})
}

// guestOf is a booted machine whose agent is heard.
type guestOf struct {
	*rig
	*Machine
	lines *bufio.Reader
}

// up boots a machine and waits for its agent.
func (r *rig) up(c Config) *guestOf {
	r.Helper()
	return r.heard(r.boot(c))
}

// heard waits for the agent of a machine that boots.
func (r *rig) heard(m *Machine) *guestOf {
	r.Helper()
	g := r.clone(m)
	if line := g.line(); line != "guestagent" {
		r.Fatalf("the agent said %q; %v", line, g.Exit())
	}
	return g
}

// clone is a machine whose agent has said its first word in another.
func (r *rig) clone(m *Machine) *guestOf {
	return &guestOf{rig: r, Machine: m, lines: bufio.NewReader(m.transport)}
}

// line is what the agent says next.
func (g *guestOf) line() string {
	g.Helper()
	deadline, _ := g.ctx.Deadline()
	if err := g.transport.SetReadDeadline(deadline); err != nil {
		g.Fatal(err)
	}
	line, err := g.lines.ReadString('\n')
	if err != nil {
		g.Fatalf("the agent is not heard: %v; %v", err, g.Exit())
	}
	return strings.TrimSuffix(line, "\n")
}

// tell has the agent do something and does not wait.
func (g *guestOf) tell(words ...string) {
	g.Helper()
	if _, err := fmt.Fprintln(g.transport, strconv.Quote(strings.Join(words, "\x00"))); err != nil {
		g.Fatal(err)
	}
}

// try has the agent do something.
func (g *guestOf) try(words ...string) (string, error) {
	g.Helper()
	g.tell(words...)
	status, quoted, _ := strings.Cut(g.line(), " ")
	answer, err := strconv.Unquote(quoted)
	if err != nil {
		g.Fatal(err)
	}
	if status != "ok" {
		return "", errors.New(answer)
	}
	return answer, nil
}

// do has the agent do something that must work.
func (g *guestOf) do(words ...string) string {
	g.Helper()
	answer, err := g.try(words...)
	if err != nil {
		g.Fatalf("%q in the guest: %v", words, err)
	}
	return answer
}

// ended waits for the machine's end.
func (r *rig) ended(m *Machine) *Exit {
	r.Helper()
	select {
	case <-m.Done():
	case <-r.ctx.Done():
		r.Fatal("the machine does not end")
	}
	return m.Exit()
}
