// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/log"
	"github.com/containerd/ttrpc"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/sandbox"
	"berth/sandbox/turnstile"
)

// Parts is what tells one shim of the family from another. Its methods Serve
// and Delete are those of an Env.
type Parts struct {
	// Runtime makes the runtime for one container. What it starts belongs to
	// the supervisor.
	Runtime func(RuntimeConfig) (sandbox.Runtime, error)
	// Hooks edit every container's spec.
	Hooks func(HooksConfig) hooks.Chain
}

// HooksConfig is what the hooks of one shim are made for.
type HooksConfig struct {
	Supervisor *process.Supervisor
	Namespace  string // containerd's
}

// RuntimeConfig is what a runtime is made for.
type RuntimeConfig struct {
	Supervisor *process.Supervisor
	Options    configs.Runtime
	Namespace  string // containerd's
	Bundle     string // of the container
	// HostMounts is ServeConfig's.
	HostMounts *os.File
}

func (p Parts) runtime(c RuntimeConfig) func(configs.Runtime, string) (sandbox.Runtime, error) {
	return func(o configs.Runtime, bundle string) (sandbox.Runtime, error) {
		c.Options, c.Bundle = o, bundle
		return p.Runtime(c)
	}
}

// desertedAfter is how long a shim without containers waits for containerd,
// which connects at once after `start`. A `start` that joins makes a connection
// too, so the time begins anew.
const desertedAfter = time.Minute

// Serve is the shim: it serves a pod until it is shut down.
func (p Parts) Serve(ctx context.Context, cfg ServeConfig) (retErr error) {
	if err := os.Chdir("/"); err != nil { // the bundle is not ours to hold on to
		return err
	}
	sup := process.NewSupervisor()
	defer sup.Close()
	if err := sup.ReapOrphans(); err != nil {
		return err
	}
	to := PublisherConfig{
		Address: cfg.TTRPCAddress, Namespace: cfg.Namespace, JournalPath: journalPath(cfg.SocketPath),
	}
	if cfg.Group == configs.PerNode {
		// For a pod `start` has dropped what is left; see beginLocked.
		to.SkipInherited = toldByReply
	}
	events, err := NewPublisher(to)
	if err != nil {
		return err
	}
	pod := sandbox.New(sandbox.Config{
		Namespace:  cfg.Namespace,
		Supervisor: sup,
		Runtime:    p.runtime(RuntimeConfig{Supervisor: sup, Namespace: cfg.Namespace, HostMounts: cfg.HostMounts}),
		Hooks:      p.Hooks(HooksConfig{Supervisor: sup, Namespace: cfg.Namespace}),
		Sink:       sink(events),
		RunDir:     filepath.Dir(cfg.SocketPath),
	})
	s := newServer(ctx, events.Kick)
	defer func() { retErr = errors.Join(retErr, s.close(pod, events)) }()
	return s.serve(cfg, pod)
}

func sink(events *Publisher) sandbox.Sink {
	return func(e sandbox.Event) {
		topic, m := message(e)
		if m == nil {
			log.L.WithField("kind", e.Kind).Error("an event of a kind that containerd does not know")
			return
		}
		events.Publish(topic, m)
	}
}

// server is the ttrpc side of one shim.
type server struct {
	activity chan struct{} // capacity 1: something was asked
	visits   chan struct{} // capacity 1: a connection came or went
	visitors atomic.Int64  // connections
	kick     func()        // called when containerd is there

	serving context.Context // of all calls; ended by stop
	stop    context.CancelCauseFunc
	ending  sync.Mutex // held while the socket is being removed, or is found to be needed
	until   time.Time  // when an end is over, see endTimeout; guarded by ending until stop

	answer   sync.Once
	answered chan struct{} // closed once all callers know, or have gone

	mu    sync.Mutex
	conns map[*answeringConn]struct{}
}

func newServer(ctx context.Context, kick func()) *server {
	s := &server{
		activity: make(chan struct{}, 1), visits: make(chan struct{}, 1), kick: kick,
		answered: make(chan struct{}), conns: map[*answeringConn]struct{}{},
	}
	s.serving, s.stop = context.WithCancelCause(ctx)
	return s
}

// serve answers calls until Shutdown was answered, and with it who had asked by then.
func (s *server) serve(cfg ServeConfig, pod *sandbox.Pod) error {
	srv, err := ttrpc.NewServer(
		ttrpc.WithServerHandshaker(s),
		ttrpc.WithUnaryServerInterceptor(s.intercept),
	)
	if err != nil {
		return err
	}
	tasks := &taskService{pod: pod, version: cfg.Version, socket: cfg.SocketPath, group: cfg.Group, moved: func() {}}
	tasks.end = func(may func() bool) { s.end(cfg.SocketPath, may) }
	if cfg.Group == configs.PerNode {
		if err := pod.Expect(cfg.ID); err != nil {
			return err
		}
		if cfg.FollowLog != nil {
			tasks.moved = func() { cfg.FollowLog(pod.Bundles()) }
		}
	}
	tasks.register(srv)

	var background sync.WaitGroup
	background.Go(func() { trim(s.activity, s.serving.Done()) })
	background.Go(func() { s.endDeserted(pod, tasks.end) })
	defer background.Wait()
	failed := make(chan error, 1)
	background.Go(func() { failed <- srv.Serve(s.serving, cfg.Listener) })

	select {
	case <-s.serving.Done():
		err = nil
		s.awaitAnswers()
	case err = <-failed:
		err = fmt.Errorf("serve %s: %w", cfg.SocketPath, err)
		s.stopNow()
	}
	return errors.Join(err, srv.Close())
}

// Handshake lets in the shim's own user alone (SO_PEERCRED, unix(7)).
func (s *server) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	conn, creds, err := ttrpc.UnixSocketRequireSameUser().Handshake(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	s.kick()
	s.visitors.Add(1)
	notify(s.visits)
	c := &answeringConn{Conn: turnstile.New(conn, s.serving.Done()), s: s}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	return c, creds, nil
}

// endDeserted ends a shim that has no container and to which nobody is
// connected: containerd died, or gave up, between `start` and Create.
func (s *server) endDeserted(pod *sandbox.Pod, end func(may func() bool)) {
	timer := time.NewTimer(desertedAfter)
	defer timer.Stop()
	for {
		select {
		case <-s.serving.Done():
			return
		case <-s.visits:
			timer.Reset(desertedAfter)
		case <-timer.C:
			// A visit that was not noted yet is of one who has announced a container.
			end(func() bool {
				deserted := s.visitors.Load() == 0 && len(s.visits) == 0 && pod.CloseDeserted()
				if deserted {
					log.L.Warn("nobody wants this shim; it ends")
				}
				return deserted
			})
		}
	}
}

// intercept sees every call. Stats, which containerd asks for every second and
// which costs next to nothing, is no reason to collect garbage.
func (s *server) intercept(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
	if !strings.HasSuffix(info.FullMethod, "/Stats") {
		select {
		case s.activity <- struct{}{}:
		default:
		}
	}
	return errorInterceptor(ctx, unmarshal, info, m)
}

// journalPath is where undelivered events lie, beside the socket.
func journalPath(socket string) string { return socket + ".events" }
