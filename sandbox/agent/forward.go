// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// dialTimeout is for a connection within the guest, whose listener may be busy.
const dialTimeout = 5 * time.Second

// Forward is asked by the host.
func (s *server) Forward(ctx context.Context, r *agentapi.ForwardRequest) (*agentapi.Empty, error) {
	stream, err := s.arrived.take(ctx, r.Stream)
	if err != nil {
		return nil, err
	}
	conn, err := dialLoopback(ctx, r)
	if err != nil {
		_ = stream.Close()
		return nil, fmt.Errorf("connect to port %d: %w", r.Port, err)
	}
	s.work.Go(func() { mux.Join(conn, stream) })
	return &agentapi.Empty{}, nil
}

// dialLoopback tries the other family as well: whoever connects on the host does
// not, because there somebody answers by both.
func dialLoopback(ctx context.Context, r *agentapi.ForwardRequest) (*net.TCPConn, error) {
	hosts := []string{"127.0.0.1", "::1"}
	if r.Ipv6 {
		hosts = []string{"::1", "127.0.0.1"}
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	var errs []error
	for _, host := range hosts {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
