// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	events "github.com/containerd/containerd/api/events"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Event is one delivered event. Of the fields after Topic only those that its
// kind has are set.
type Event struct {
	Topic       string
	ContainerID string
	ExecID      string // "" for the init; an exit's ID if that differs from the container's
	Pid         uint32
	ExitStatus  uint32
}

// Recorder is containerd's event socket. Every delivery is kept, in the order
// of arrival. Stop makes containerd go away, Start brings it back.
type Recorder struct {
	Path string

	mu      sync.Mutex // guards what follows
	events  []Event
	changed chan struct{} // closed and replaced at each event
	server  *ttrpc.Server
	served  chan struct{}
}

// NewRecorder listens on a Unix socket at path.
func NewRecorder(path string) (*Recorder, error) {
	r := &Recorder{Path: path, changed: make(chan struct{})}
	return r, r.Start()
}

// Start listens again after Stop.
func (r *Recorder) Start() error {
	if err := os.Remove(r.Path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove old event socket: %w", err)
	}
	listener, err := net.Listen("unix", r.Path)
	if err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	eventsapi.RegisterTTRPCEventsService(server, r)
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(context.Background(), listener)
	}()
	r.mu.Lock()
	r.server, r.served = server, served
	r.mu.Unlock()
	return nil
}

// Stop closes the socket and every connection to it.
func (r *Recorder) Stop() error {
	r.mu.Lock()
	server, served := r.server, r.served
	r.server = nil
	r.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Close()
	<-served
	return err
}

// Close is Stop for good.
func (r *Recorder) Close() error { return r.Stop() }

// Forward takes one event from a shim; it implements the ttrpc service.
func (r *Recorder) Forward(_ context.Context, req *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	event, err := decode(req)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
	close(r.changed)
	r.changed = make(chan struct{})
	return &emptypb.Empty{}, nil
}

func decode(req *eventsapi.ForwardRequest) (Event, error) {
	envelope := req.GetEnvelope()
	value, err := typeurl.UnmarshalAny(envelope.GetEvent())
	if err != nil {
		return Event{}, fmt.Errorf("decode event %s: %w", envelope.GetTopic(), err)
	}
	event := Event{Topic: envelope.GetTopic()}
	switch v := value.(type) {
	case *events.TaskCreate:
		event.ContainerID, event.Pid = v.ContainerID, v.Pid
	case *events.TaskStart:
		event.ContainerID, event.Pid = v.ContainerID, v.Pid
	case *events.TaskDelete:
		event.ContainerID, event.Pid, event.ExitStatus = v.ContainerID, v.Pid, v.ExitStatus
		event.ExecID = execID(v.ContainerID, v.ID)
	case *events.TaskExit:
		event.ContainerID, event.Pid, event.ExitStatus = v.ContainerID, v.Pid, v.ExitStatus
		event.ExecID = execID(v.ContainerID, v.ID)
	case *events.TaskExecAdded:
		event.ContainerID, event.ExecID = v.ContainerID, v.ExecID
	case *events.TaskExecStarted:
		event.ContainerID, event.ExecID, event.Pid = v.ContainerID, v.ExecID, v.Pid
	case *events.TaskOOM:
		event.ContainerID = v.ContainerID
	case *events.TaskPaused:
		event.ContainerID = v.ContainerID
	case *events.TaskResumed:
		event.ContainerID = v.ContainerID
	}
	return event, nil
}

func execID(container, id string) string {
	if id == container {
		return ""
	}
	return id
}

// Select returns the delivered events that match, in order.
func (r *Recorder) Select(match func(Event) bool) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Event
	for _, event := range r.events {
		if match(event) {
			found = append(found, event)
		}
	}
	return found
}

// Await waits until n events match and returns all that do, or what there is
// with the context's error.
func (r *Recorder) Await(ctx context.Context, n int, match func(Event) bool) ([]Event, error) {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		found := r.Select(match)
		if len(found) >= n {
			return found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return found, fmt.Errorf("%d of %d events arrived: %w", len(found), n, ctx.Err())
		}
	}
}
