// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/status"

	"berth/process"
	"berth/process/oci"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
	"berth/sandbox/turnstile"
)

// Runtime makes containers and processes: see oci.CLI, which is one.
type Runtime interface {
	Create(ctx context.Context, r *oci.CreateRequest) (*process.Process, error)
	Start(ctx context.Context, id string) error
	Exec(ctx context.Context, r *oci.ExecRequest) (*process.Process, error)
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Update(ctx context.Context, id string, resources []byte) error
	Delete(ctx context.Context, id string, force bool) error
}

// Config is what an agent is made of.
type Config struct {
	// Supervisor owns every process.
	Supervisor *process.Supervisor
	// Runtime gives the runtime for a container's bundle.
	Runtime func(bundle string) Runtime
	// Dir is a private directory with a short path, for bundles and sockets.
	Dir string
	// Share is where the guest has what the host shares with it. What is
	// mounted below Share/ID is let go of when the container is deleted.
	Share string
	// Disks finds disks; nil has none. File systems on them are mounted below
	// DiskDir.
	Disks   Disks
	DiskDir string
	// TmpfsDir is where the file systems in memory are that containers have in
	// common; empty has none.
	TmpfsDir string
	// Network is true where the network is the guest's own, to be set up.
	Network bool
	// Renew makes a clone a machine of its own; nil where this is none.
	Renew func(*agentapi.RenewRequest) error
	// SetClock sets the guest's clock, in nanoseconds since 1970; nil where that is
	// the host's own.
	SetClock func(int64) error
	// PowerOff ends the guest, once Shutdown was answered; nil does nothing.
	PowerOff func()
}

// Serve serves the host's calls until the session or ctx ends. Containers that
// still run are left to whoever ends the guest.
func Serve(ctx context.Context, session *mux.Session, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{
		cfg: cfg, arrived: newArrivals(ctx.Done()), gone: ctx.Done(),
		containers: make(map[string]*container), making: make(map[string]*making), procs: make(map[uint64]*proc),
		eventsUp: make(chan struct{}), starting: newPlaces(),
	}
	var work sync.WaitGroup
	defer work.Wait()
	defer s.close()
	defer cancel()
	for {
		stream, err := session.Accept(ctx)
		if err != nil {
			return fmt.Errorf("the session with the host has ended: %w", err)
		}
		switch id := stream.ID(); {
		case id == agentapi.ControlStream:
			work.Go(func() { s.serveCalls(ctx, stream) })
		case id == agentapi.EventStream && s.events == nil:
			s.events = stream
			close(s.eventsUp)
		case id >= agentapi.FirstStdioStream:
			s.arrived.put(stream)
		default: // LogStream has its own taker
			s.arrived.put(stream)
		}
	}
}

// server is one agent.
type server struct {
	cfg     Config
	arrived *arrivals
	gone    <-chan struct{} // closed when the session has ended
	work    sync.WaitGroup  // watchers

	events   *mux.Stream // set before eventsUp is closed
	eventsUp chan struct{}
	telling  sync.Mutex // one event at a time

	starting places

	tmpfs     sync.Mutex // held while one is being made
	tmpfsMade map[string]bool

	mu         sync.Mutex
	containers map[string]*container // nil while one is being made
	making     map[string]*making
	procs      map[uint64]*proc
}

func (s *server) serveCalls(ctx context.Context, conn *mux.Stream) {
	srv, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(errorInterceptor))
	if err != nil {
		return // of an option, never
	}
	agentapi.RegisterAgentService(srv, s)
	l := newOneConn(turnstile.New(conn, ctx.Done()))
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	_ = srv.Serve(ctx, l) // the session tells why
}

// errorInterceptor makes every error a status once. Of its text only the class
// is the host's to act upon.
func errorInterceptor(ctx context.Context, unmarshal ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
	res, err := m(ctx, unmarshal)
	if err == nil {
		return res, nil
	}
	st := status.Convert(errgrpc.ToGRPC(err)).Proto()
	st.Details = nil
	return nil, status.ErrorProto(st)
}

// tell sends an event, after those before it.
func (s *server) tell(e *agentapi.Event) {
	select {
	case <-s.eventsUp:
	case <-s.gone:
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	_ = agentapi.WriteEvent(s.events, e) // the session has ended, or is about to
}

// close lets go of everything. No call is under way.
func (s *server) close() {
	s.mu.Lock()
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		if c != nil {
			all = append(all, c)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, c := range all {
		errs = append(errs, c.release())
	}
	_ = errors.Join(errs...) // nobody is left to tell
	s.work.Wait()
	s.arrived.close()
}
