// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	eventstypes "github.com/containerd/containerd/api/events"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"berth/hooks"
	"berth/sandbox"
)

// exchange is containerd's side of events: a ttrpc server that can be stopped
// and started again at the same address.
type exchange struct {
	t    *testing.T
	path string

	mu     sync.Mutex
	got    []*types.Envelope
	refuse error // answered instead of taking an event
	came   chan struct{}
	server *ttrpc.Server
	life   *life
	done   chan error
}

// life is one run of containerd. What it was asked for and had not begun when
// it ended, it never does: unlike a process, a server that is closed goes on.
type life struct {
	x    *exchange
	over bool // guarded by x.mu
}

func newExchange(t *testing.T) *exchange {
	dir, err := os.MkdirTemp("", "x")
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{t: t, path: filepath.Join(dir, "ttrpc"), came: make(chan struct{}, 1)}
	t.Cleanup(func() {
		x.stop()
		_ = os.RemoveAll(dir)
	})
	return x
}

func (x *exchange) start() {
	x.t.Helper()
	server, err := ttrpc.NewServer()
	if err != nil {
		x.t.Fatal(err)
	}
	x.life = &life{x: x}
	eventsapi.RegisterTTRPCEventsService(server, x.life)
	_ = os.Remove(x.path)
	l, err := net.Listen("unix", x.path)
	if err != nil {
		x.t.Fatal(err)
	}
	x.server, x.done = server, make(chan error, 1)
	go func() { x.done <- server.Serve(context.Background(), l) }()
}

func (x *exchange) stop() {
	if x.server != nil {
		x.mu.Lock()
		x.life.over = true
		x.mu.Unlock()
		_ = x.server.Close()
		<-x.done
		x.server = nil
	}
}

func (l *life) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	x := l.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if l.over {
		return nil, errors.New("containerd has ended")
	}
	if x.refuse != nil {
		return nil, x.refuse
	}
	x.got = append(x.got, r.GetEnvelope())
	notify(x.came)
	return &emptypb.Empty{}, nil
}

// await returns once n events came.
func (x *exchange) await(n int) {
	x.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for {
		x.mu.Lock()
		have := len(x.got)
		x.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-x.came:
		case <-limit.C:
			x.t.Fatalf("%d of %d events came", have, n)
		}
	}
}

// pids are those of the events that came, in order and without repetition of
// one: each may come again right after itself.
func (x *exchange) pids() []uint32 {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	var pids []uint32
	for _, e := range x.got {
		m := new(eventstypes.TaskStart)
		if e.GetTopic() != "/tasks/start" || e.GetNamespace() != "ns" || e.GetTimestamp().AsTime().IsZero() ||
			e.GetEvent().GetTypeUrl() != "containerd.events.TaskStart" {
			x.t.Errorf("envelope %v", e)
		}
		if err := proto.Unmarshal(e.GetEvent().GetValue(), m); err != nil {
			x.t.Error(err)
		}
		if len(pids) == 0 || pids[len(pids)-1] != m.GetPid() {
			pids = append(pids, m.GetPid())
		}
	}
	return pids
}

func (x *exchange) wantCount(n int) {
	x.t.Helper()
	pids := x.pids()
	if len(pids) != n {
		x.t.Errorf("%d events came, want %d", len(pids), n)
	}
	for i, pid := range pids {
		if pid != uint32(i) {
			x.t.Fatalf("event %d is that of pid %d: %v", i, pid, pids)
		}
	}
}

func (x *exchange) config() PublisherConfig {
	return PublisherConfig{Address: "unix://" + x.path, Namespace: "ns", JournalPath: x.path + ".events"}
}

func (x *exchange) publisher() *Publisher {
	x.t.Helper()
	p, err := newPublisher(x.config(), 0)
	if err != nil {
		x.t.Fatal(err)
	}
	return p
}

func publishPids(p *Publisher, from, to int) {
	for i := from; i < to; i++ {
		p.Publish("/tasks/start", &eventstypes.TaskStart{ContainerID: "c", Pid: uint32(i)})
	}
}

func closeWithin(t *testing.T, p *Publisher, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return p.Close(ctx)
}

func TestPublishAndClose(t *testing.T) {
	x := newExchange(t)
	x.start()
	p := x.publisher()
	publishPids(p, 0, 100)
	if err := closeWithin(t, p, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	x.wantCount(100)
	if journalExists(x.config().JournalPath) {
		t.Error("the journal is left behind")
	}
	if err := closeWithin(t, p, time.Second); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestPublishAcrossRestartsOfContainerd(t *testing.T) {
	x := newExchange(t)
	p := x.publisher()
	const rounds, each = 8, 500
	for round := range rounds {
		publishPids(p, round*each, round*each+each/2) // while it is away
		x.start()
		p.Kick()
		x.await(round*each + 1)
		publishPids(p, round*each+each/2, (round+1)*each) // while it takes them
		if round%2 == 0 {
			x.await((round + 1) * each)
		}
		x.stop() // in the middle of it, every other time
	}
	x.start()
	p.Kick()
	if err := closeWithin(t, p, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	x.wantCount(rounds * each)
}

func TestPublishDoesNotWaitForHungContainerd(t *testing.T) {
	x := newExchange(t)
	l, err := net.Listen("unix", x.path) // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	p := x.publisher()
	conn, err := func() (net.Conn, error) {
		publishPids(p, 0, 1)
		return l.Accept()
	}()
	if err != nil {
		t.Fatal(err)
	}
	publishPids(p, 1, 1000) // returns, or the test does not end
	err = closeWithin(t, p, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), x.config().JournalPath) {
		t.Errorf("close with undelivered events: %v", err)
	}
	_ = conn.Close()
	_ = l.Close()
	x.start()
	if err := Replay(context.Background(), x.config()); err != nil {
		t.Fatal(err)
	}
	x.wantCount(1000)
	if journalExists(x.config().JournalPath) {
		t.Error("the journal is left behind")
	}
}

func TestPublishGivesUpOnlyWhatIsInvalid(t *testing.T) {
	x := newExchange(t)
	x.refuse = grpcstatus.Error(codes.Unavailable, "not yet")
	x.start()
	p := x.publisher()
	publishPids(p, 0, 3)
	if err := closeWithin(t, p, 10*time.Millisecond); err == nil {
		t.Error("events that were refused for the moment are gone")
	}
	x.mu.Lock()
	x.refuse = grpcstatus.Error(codes.InvalidArgument, "never")
	x.mu.Unlock()
	p = x.publisher()
	if err := closeWithin(t, p, 20*time.Second); err != nil {
		t.Errorf("events that are invalid block the queue: %v", err)
	}
}

func TestPublishToNobody(t *testing.T) {
	p, err := NewPublisher(PublisherConfig{JournalPath: "/dev/null/x"})
	if err != nil {
		t.Fatal(err)
	}
	publishPids(p, 0, 3)
	if err := closeWithin(t, p, time.Second); err != nil {
		t.Error(err)
	}
}

// A panic in the journal, which the sandbox survives, leaves it to the next event.
func TestPanicOfTheJournal(t *testing.T) {
	p := &Publisher{cfg: PublisherConfig{Address: "unix:///"}} // without a journal
	func() {
		defer func() {
			if recover() == nil {
				t.Error("there was no panic")
			}
		}()
		publishPids(p, 0, 1)
	}()
	if !p.mu.TryLock() {
		t.Error("the journal is locked for good")
	}
}

// TestPublishOnFullDisk keeps the journal on a file system that fills up.
func TestPublishOnFullDisk(t *testing.T) {
	x := newExchange(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip("a mount needs root: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	cfg := x.config()
	cfg.JournalPath = filepath.Join(disk, "events")
	p, err := NewPublisher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	inMemory := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.journal.memory)
	}
	// Fill the disk, then go on until an event finds no room in the pages
	// that the journal has.
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	n := 0
	for ; inMemory() < 3; n++ {
		publishPids(p, n, n+1)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	publishPids(p, n, n+1)
	if got := inMemory(); got != 0 {
		t.Errorf("%d events are still in memory", got)
	}
	x.start()
	if err := closeWithin(t, p, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	x.wantCount(n + 1)
}

func TestReplayLeavesTheLivingAlone(t *testing.T) {
	x := newExchange(t)
	p := x.publisher()
	publishPids(p, 0, 3)
	if err := Replay(context.Background(), x.config()); err != nil {
		t.Errorf("replay beside the owner: %v", err)
	}
	if _, err := newPublisher(x.config(), time.Millisecond); !errors.Is(err, errJournalBusy) {
		t.Errorf("second publisher: %v", err)
	}
	x.start()
	p.Kick()
	if err := closeWithin(t, p, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	x.wantCount(3)
	if err := Replay(context.Background(), x.config()); err != nil {
		t.Errorf("replay of nothing: %v", err)
	}
	if journalExists(x.config().JournalPath) {
		t.Error("replay of nothing left a journal")
	}
}

// TestPublisherWaitsForFormerOwner has the next shim of a group come while the
// last one still delivers.
func TestPublisherWaitsForFormerOwner(t *testing.T) {
	x := newExchange(t)
	first := x.publisher()
	publishPids(first, 0, 3)
	second := make(chan *Publisher)
	go func() {
		p, err := newPublisher(x.config(), time.Minute)
		if err != nil {
			t.Error(err)
		}
		second <- p
	}()
	if err := closeWithin(t, first, time.Millisecond); err == nil {
		t.Error("there is nobody to deliver to")
	}
	p := <-second
	publishPids(p, 3, 6)
	x.start()
	p.Kick()
	if err := closeWithin(t, p, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	x.wantCount(6)
}

// publishUntilKilled is another process: it says which event it published.
func publishUntilKilled() int {
	path := os.Getenv("BERTH_SHIM_TEST_EVENTS")
	p, err := NewPublisher(PublisherConfig{Address: path, Namespace: "ns", JournalPath: path + ".events"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for i := 0; ; i++ {
		publishPids(p, i, i+1)
		fmt.Println(i)
	}
}

func TestReplayAfterKill(t *testing.T) {
	for _, up := range []bool{false, true} {
		t.Run(fmt.Sprintf("containerd is there: %v", up), func(t *testing.T) {
			x := newExchange(t)
			if up {
				x.start()
			}
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), roleVariable+"=publish", "BERTH_SHIM_TEST_EVENTS="+x.path)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			published := 0
			s := bufio.NewScanner(out)
			for s.Scan() {
				if published, err = strconv.Atoi(s.Text()); err != nil {
					t.Fatal(err)
				}
				if published == 2000 {
					_ = cmd.Process.Kill()
				}
			}
			_ = cmd.Wait()
			if !up {
				x.start()
			}
			if err := Replay(context.Background(), x.config()); err != nil {
				t.Fatal(err)
			}
			// The one being published when it was killed may be there or not.
			got := len(x.pids())
			if got < published+1 {
				t.Errorf("%d events came, %d were published", got, published+1)
			}
			x.wantCount(got)
		})
	}
}

func TestPublishEncodedEvent(t *testing.T) {
	topic, m := message(sandbox.Event{Kind: sandbox.HookEvent, Hook: hooks.Event{Topic: "/t", TypeURL: "some.Type", Value: []byte("v")}})
	record, err := (&Publisher{}).encode(topic, m)
	if err != nil {
		t.Fatal(err)
	}
	var sent eventsapi.ForwardRequest
	if err := proto.Unmarshal(record, &sent); err != nil {
		t.Fatal(err)
	}
	if e := sent.Envelope; e.Topic != "/t" || e.Event.TypeUrl != "some.Type" || string(e.Event.Value) != "v" {
		t.Errorf("sent as %v", e)
	}
}
