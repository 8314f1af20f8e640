// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"berth/configs"
	"berth/process"
	"berth/process/cgroup"
	"berth/sandbox"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
	"berth/sandbox/runtimetest"
)

// liar is an agent that has nothing and says what a test has it say. What it
// is not told to say, it says as an honest one would.
type liar struct {
	agentapi.AgentService // nil: what a test does not expect is a panic
	answer                func(verb string) error
	off                   func() // ends the machine
	stats                 *agentapi.StatsResponse
	drain                 *agentapi.DrainResponse

	events  chan *mux.Stream // capacity 1
	control chan *mux.Stream // capacity 1

	mu      sync.Mutex
	created []uint64               // numbers of processes
	stdio   map[uint32]*mux.Stream // what the host opened
}

func (l *liar) say(verb string) (*agentapi.Empty, error) {
	if l.answer != nil {
		if err := l.answer(verb); err != nil {
			return nil, err
		}
	}
	return &agentapi.Empty{}, nil
}

func (l *liar) Create(_ context.Context, r *agentapi.CreateRequest) (*agentapi.Empty, error) {
	l.mu.Lock()
	l.created = append(l.created, r.Process)
	l.mu.Unlock()
	return l.say("create")
}
func (l *liar) Start(context.Context, *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return l.say("start")
}
func (l *liar) Kill(context.Context, *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return l.say("kill")
}
func (l *liar) Signal(context.Context, *agentapi.SignalRequest) (*agentapi.Empty, error) {
	return l.say("signal")
}
func (l *liar) Delete(context.Context, *agentapi.DeleteRequest) (*agentapi.Empty, error) {
	return l.say("delete")
}
func (l *liar) Release(context.Context, *agentapi.ProcessRequest) (*agentapi.Empty, error) {
	return l.say("release")
}
func (l *liar) Shutdown(context.Context, *agentapi.Empty) (*agentapi.Empty, error) {
	l.off()
	return l.say("shutdown")
}
func (l *liar) Frozen(context.Context, *agentapi.ContainerRequest) (*agentapi.FrozenResponse, error) {
	return &agentapi.FrozenResponse{}, nil
}
func (l *liar) Stats(context.Context, *agentapi.ContainerRequest) (*agentapi.StatsResponse, error) {
	return l.stats, nil
}
func (l *liar) Drain(context.Context, *agentapi.ProcessRequest) (*agentapi.DrainResponse, error) {
	return l.drain, nil
}

// process is the number of the n-th process that was asked for.
func (l *liar) process(n int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.created[n]
}

// serve is the guest's side, until the session ends.
func (l *liar) serve(conn net.Conn) {
	session := mux.Guest(conn, mux.Config{})
	defer func() { _ = session.Close() }()
	ctx := context.Background()
	if session.Handshake(ctx) != nil {
		return
	}
	srv, err := ttrpc.NewServer()
	if err != nil {
		return
	}
	defer func() { _ = srv.Close() }()
	agentapi.RegisterAgentService(srv, l)
	for {
		s, err := session.Accept(ctx)
		if err != nil {
			return
		}
		switch s.ID() {
		case agentapi.ControlStream:
			l.control <- s
			go func() { _ = srv.Serve(ctx, &oneConn{conn: s}) }()
		case agentapi.EventStream:
			l.events <- s
		default:
			l.mu.Lock()
			l.stdio[s.ID()] = s
			l.mu.Unlock()
		}
	}
}

// oneConn is a listener for one connection.
type oneConn struct {
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (l *oneConn) Accept() (c net.Conn, err error) {
	err = net.ErrClosed
	l.once.Do(func() { c, err, l.done = l.conn, nil, make(chan struct{}) })
	if err != nil {
		<-l.done
	}
	return c, err
}

func (l *oneConn) Close() error {
	defer func() { _ = recover() }() // closed twice
	close(l.done)
	return nil
}
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// den is a pod whose agent is a liar, in a machine that is none.
type den struct {
	*runtimetest.Pod
	*liar
	machine *fakeMachine
	runtime *Runtime
}

func newDen(t *testing.T) *den {
	t.Helper()
	d := &den{liar: &liar{
		events: make(chan *mux.Stream, 1), control: make(chan *mux.Stream, 1), stdio: make(map[uint32]*mux.Stream),
		drain: &agentapi.DrainResponse{}, stats: &agentapi.StatsResponse{},
	}}
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		d.serve(far)
	}()
	t.Cleanup(func() { <-served })
	var end func(process.Exit)
	proc, end := process.Elsewhere(os.Getpid(), func(unix.Signal) error {
		end(process.Exit{Status: 137, Known: true})
		return nil
	})
	d.machine = newFakeMachine(near, proc)
	d.off = func() { d.machine.Kill(errors.New("it was shut down")) }
	sup := process.NewSupervisor()
	t.Cleanup(sup.Close)
	dir := t.TempDir()
	rt := New(Config{
		Host: sandbox.ThisKernel(sup), Share: filepath.Join(dir, "share"), GuestShare: "/share",
		Boot: func(context.Context, BootRequest) (Machine, error) { return d.machine, nil },
	})
	d.runtime = rt
	d.Pod = runtimetest.NewPod(t, runtimetest.Host{
		Supervisor: sup, Program: "/bin/busybox",
		Runtime: func(configs.Runtime, string) (sandbox.Runtime, error) { return rt, nil },
	})
	return d
}

// tell sends events as the guest's.
func (d *den) tell(events ...*agentapi.Event) {
	s := <-d.events
	defer func() { d.events <- s }()
	for _, e := range events {
		if err := agentapi.WriteEvent(s, e); err != nil {
			return // the host has had enough
		}
	}
}

func exitOf(process uint64, status uint32) *agentapi.Event {
	return &agentapi.Event{Event: &agentapi.Event_Exit{Exit: &agentapi.Exit{Process: process, Status: status, Known: true}}}
}

// dies checks that the machine was killed, for the reason, and that what was in
// it has exited.
func (d *den) dies(b *runtimetest.Box, reason string) {
	d.Helper()
	if exit := b.Wait(""); exit.Status != 137 {
		d.Errorf("exit %+v", exit)
	}
	if err := d.machine.Err(); !strings.Contains(err.Error(), reason) {
		d.Errorf("the machine was killed for %q, not for %q", err, reason)
	}
	b.Delete("")
	b.Expect("create", "start", "exit=137", "delete")
}

// needRoot skips where nothing can be mounted.
func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: nothing can be mounted")
	}
}

func TestHostileEvents(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		wire   string
		reason string
	}{
		"long":    {"\xff\xff\xff\xff", "an event of 4294967295 bytes"},
		"garbage": {"\x00\x00\x00\x03\xff\xff\xff", "decode an event"},
		"empty":   {"\x00\x00\x00\x02\x7a\x00", "an event that says nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDen(t)
			b := d.Box("a", "").Run()
			_, _ = io.WriteString(<-d.events, c.wire)
			d.dies(b, c.reason)
		})
	}
	for name, number := range map[string]func(d *den) uint64{
		"of nobody yet": func(d *den) uint64 { return d.process(0) + 1 },
		"of nobody":     func(*den) uint64 { return 0 },
	} {
		t.Run("exit "+name, func(t *testing.T) {
			d := newDen(t)
			b := d.Box("a", "").Run()
			d.tell(exitOf(number(d), 0))
			d.dies(b, "which nobody asked for")
		})
	}
	t.Run("end", func(t *testing.T) {
		d := newDen(t)
		b := d.Box("a", "").Run()
		_ = (<-d.events).Close()
		d.dies(b, "hear the agent's events")
	})
}

// An exit has a status that a process can have, is told once, and what is told
// of a container after that is passed over.
func TestHostileExit(t *testing.T) {
	needRoot(t)
	d := newDen(t)
	b, other := d.Box("a", "").Run(), d.Box("b", "").Run()
	number := d.process(0)
	d.tell(exitOf(number, 0x10003), exitOf(number, 4))
	if exit := b.Wait(""); exit.Status != 3 {
		t.Errorf("exit %+v", exit)
	}
	d.tell(
		&agentapi.Event{Event: &agentapi.Event_Oom{Oom: &agentapi.OOM{Container: b.ID, Kills: 3}}},
		&agentapi.Event{Event: &agentapi.Event_Oom{Oom: &agentapi.OOM{Container: "../../etc", Kills: 3}}},
		exitOf(d.process(1), 1))
	other.Wait("")
	b.Delete("")
	other.Delete("")
	b.Expect("create", "start", "exit=3", "delete")
}

// A guest that claims more OOM kills than it may is believed once a second.
func TestHostileOOM(t *testing.T) {
	needRoot(t)
	d := newDen(t)
	b := d.Box("a", "").Run()
	var flood []*agentapi.Event
	for i := range uint64(freeEvents / 2) {
		flood = append(flood, &agentapi.Event{Event: &agentapi.Event_Oom{Oom: &agentapi.OOM{Container: b.ID, Kills: i + 1}}})
	}
	began := time.Now()
	d.tell(append(flood, exitOf(d.process(0), 1))...)
	b.Wait("")
	b.Delete("")
	told := 0
	for _, word := range b.Story() {
		if word == "oom" {
			told++
		}
	}
	if most := 2 + int(time.Since(began)/oomInterval); told == 0 || told > most {
		t.Errorf("%d OOM events were told; at most %d", told, most)
	}
}

// Answers that nobody waits for, or that are too long, are the end.
func TestHostileAnswers(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		wire   string
		reason string
	}{
		"unasked": {"\x00\x00\x00\x01\x00\x00\x03\xe9\x02\x00x", "waits for no answer"},
		"data":    {"\x00\x00\x00\x01\x00\x00\x00\x01\x03\x00x", "where only answers are due"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDen(t)
			b := d.Box("a", "").Run()
			_, _ = io.WriteString(<-d.control, c.wire)
			d.dies(b, c.reason)
		})
	}
	t.Run("long", func(t *testing.T) {
		d := newDen(t)
		d.stats.Metrics = make([]byte, maxAnswer)
		b := d.Box("a", "").Run()
		if _, _, err := b.C.Stats(nil); !errdefs.IsUnavailable(err) {
			t.Errorf("stats: %v", err)
		}
		d.dies(b, "it may be 262144")
	})
}

// Metrics are a message of a type that is known, or an error of one call.
func TestHostileStats(t *testing.T) {
	needRoot(t)
	d := newDen(t)
	b := d.Box("a", "").Run()
	for _, s := range []*agentapi.StatsResponse{
		{TypeUrl: "evil", Metrics: []byte{}},
		{TypeUrl: "io.containerd.cgroups.v2.Metrics", Metrics: []byte("\x0a\xff\xff\xff\x0f")},
		{TypeUrl: "io.containerd.cgroups.v2.Metrics", Metrics: []byte("\xff")},
	} {
		d.stats = s
		if m, _, err := b.C.Stats(nil); err == nil {
			t.Errorf("%v was taken as %x", s, m)
		}
	}
	d.tell(exitOf(d.process(0), 0))
	b.Wait("")
	b.Delete("")
}

// Of metrics that are a message the numbers are handed on, and nothing else: a text
// that is none, or a list that is broken, in one container's would keep containerd
// from telling those of any.
func TestHostileStatsAreNumbers(t *testing.T) {
	needRoot(t)
	d := newDen(t)
	b := d.Box("a", "").Run()
	const evil = "\xff\xfe evil" // neither UTF-8 nor a message
	text := protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), evil)
	for _, s := range []struct {
		kind   string
		number numbers
		lists  []protowire.Number
	}{
		{cgroup.TypeURLV1, numbers{3, 1, 1}, []protowire.Number{1, 5, 6, 7}},
		{cgroup.TypeURLV2, numbers{4, 32}, []protowire.Number{5, 6, 7, 9}},
	} {
		message := metrics{s.number: 4711}.append(nil, partsOf(s.kind), numbers{}, 0)
		for _, list := range s.lists {
			message = protowire.AppendBytes(protowire.AppendTag(message, list, protowire.BytesType), text)
			message = protowire.AppendString(protowire.AppendTag(message, list, protowire.BytesType), evil)
		}
		d.stats = &agentapi.StatsResponse{TypeUrl: s.kind, Metrics: message}
		got, kind, err := b.C.Stats(nil)
		if err != nil || bytes.Contains(got, []byte("evil")) {
			t.Errorf("%s: handed on as %q, %v", s.kind, got, err)
			continue
		}
		m, err := decodeMetrics(got, kind)
		if u := m.usage(kind); err != nil || u.cpu != 4711 && u.memory != 4711 {
			t.Errorf("%s: handed on as %v, %v", s.kind, m, err)
		}
	}
	d.tell(exitOf(d.process(0), 0))
	b.Wait("")
	b.Delete("")
}

// An error of the guest's has a class, and one line that shows nothing but text.
func TestHostileErrors(t *testing.T) {
	needRoot(t)
	d := newDen(t)
	d.answer = func(verb string) error {
		if verb != "create" {
			return nil
		}
		return status.Error(codes.NotFound, "\x1b[2J\n/host/path"+strings.Repeat("x", 100<<10))
	}
	err := d.Box("a", "").TryCreate()
	if !errdefs.IsNotFound(err) || strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 3*maxErrorText {
		t.Errorf("error of %d bytes: %.200q", len(err.Error()), err)
	}
}

// Output that was promised and does not come is waited for as long as the
// caller likes, and no longer.
func TestHostileDrain(t *testing.T) {
	o := newCopyOut(nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.file = os.Stdout // for its name
	if err := o.await(ctx, 1<<63); !errors.Is(err, context.Canceled) {
		t.Errorf("await: %v", err)
	}
}

// A guest that answers nothing is given up by whoever asks, within the time
// that it has.
func TestSilentGuest(t *testing.T) {
	needRoot(t)
	d := newDen(t)
	asked := make(chan struct{})
	silence := make(chan struct{})
	defer close(silence)
	d.answer = func(verb string) error {
		if verb == "start" {
			close(asked)
			<-silence
		}
		return nil
	}
	b := d.Box("a", "").Create()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := b.C.Start(ctx, "")
		got <- err
	}()
	<-asked
	if st, err := b.C.Status(""); err != nil || st.State != sandbox.Created {
		t.Errorf("%+v, %v", st, err)
	}
	d.machine.Kill(errors.New("the test has seen enough"))
	if err := <-got; !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "the test has seen enough") {
		t.Errorf("start in a guest that was killed: %v", err)
	}
	cancel()
	b.Wait("")
	b.Delete("")
}
