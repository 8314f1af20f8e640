// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"net"

	"github.com/containerd/log"

	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// Forwarder is a Machine in whose network namespace on the host somebody connects
// to the loopback interface, and means the guest's.
type Forwarder interface {
	// Loopback takes such connections, whose local addresses are those that were
	// meant. Who asks closes it.
	Loopback() []net.Listener
}

// maxForwards bounds the connections of one family that are carried at a time. The
// next ones wait.
const maxForwards = 64

// forward begins to take connections.
func (r *guest) forward() {
	m, ok := r.machine.(Forwarder)
	if !ok {
		return
	}
	for _, l := range m.Loopback() {
		r.work.Go(func() { r.acceptAll(l) })
		r.work.Go(func() {
			<-r.dead
			_ = l.Close()
		})
	}
}

func (r *guest) acceptAll(l net.Listener) {
	places := make(chan struct{}, maxForwards)
	for {
		select {
		case places <- struct{}{}:
		case <-r.dead:
			return
		}
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.L.WithError(err).Warn("ports of the pod are not forwarded any more")
			return
		}
		r.work.Go(func() {
			defer func() { <-places }()
			r.forwardOne(conn.(*net.TCPConn))
		})
	}
}

// forwardOne connects a connection to what listens in the guest. If nobody does it
// is reset, which is as near as it comes to being refused.
func (r *guest) forwardOne(conn *net.TCPConn) {
	ctx := context.Background() // call and openStream end with the guest, at the latest
	to := conn.LocalAddr().(*net.TCPAddr)
	stream, err := r.openStream(ctx)
	if err == nil {
		_, err = call(ctx, r, signalTimeout, "connect to a port of the guest", r.agent.Forward,
			&agentapi.ForwardRequest{Stream: stream.ID(), Port: uint32(to.Port), Ipv6: to.IP.To4() == nil})
		if err != nil {
			_ = stream.Close()
		}
	}
	if err != nil {
		log.L.WithError(err).WithField("port", to.Port).Debug("a connection to the pod's loopback interface is reset")
		_ = conn.SetLinger(0)
		_ = conn.Close()
		return
	}
	// The guest's end ends the stream, but nothing is read from a client that says
	// nothing.
	joined := make(chan struct{})
	defer close(joined)
	r.work.Go(func() {
		select {
		case <-r.dead:
			_ = conn.Close()
		case <-joined:
		}
	})
	mux.Join(conn, stream)
}
