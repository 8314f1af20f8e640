// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// slowAfter is when a containerd that does not answer is noted in the log. It
// is waited for as long as the connection stands: what was written to it cannot
// be taken back, so that an event sent again on another connection would be
// told twice, and perhaps behind the next one. A local socket tells by itself
// when the process at the other end dies.
const slowAfter = 5 * time.Second

// sender forwards events over one connection, made when needed. It is used by
// one goroutine.
type sender struct {
	address string
	skip    func(topic string, event *anypb.Any) bool // nil: none
	client  *ttrpc.Client                             // nil while there is no connection
}

// send forwards one encoded ForwardRequest. After an error there is no
// connection. A record that containerd rejects as invalid is reported in the
// log and counts as sent.
func (s *sender) send(ctx context.Context, record []byte) error {
	req := new(eventsapi.ForwardRequest)
	if err := proto.Unmarshal(record, req); err != nil {
		log.L.WithError(err).Error("a record of the event journal is no event; it is skipped")
		return nil
	}
	if s.skip != nil && s.skip(req.GetEnvelope().GetTopic(), req.GetEnvelope().GetEvent()) {
		return nil
	}
	slow := time.AfterFunc(slowAfter, func() {
		log.L.WithField("topic", req.GetEnvelope().GetTopic()).Warn("containerd does not answer; its events wait")
	})
	defer slow.Stop()
	reused := s.client != nil
	err := s.forward(ctx, req)
	if err != nil && reused && errors.Is(err, ttrpc.ErrClosed) {
		// containerd was restarted since the last event.
		err = s.forward(ctx, req)
	}
	if grpcstatus.Code(err) == codes.InvalidArgument {
		log.L.WithError(err).WithField("topic", req.GetEnvelope().GetTopic()).
			Error("containerd rejects an event; it is given up")
		return nil
	}
	return err
}

func (s *sender) forward(ctx context.Context, req *eventsapi.ForwardRequest) error {
	if s.client == nil {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", strings.TrimPrefix(s.address, "unix://"))
		if err != nil {
			return fmt.Errorf("connect to containerd's events: %w", err)
		}
		s.client = ttrpc.NewClient(conn)
	}
	_, err := eventsapi.NewTTRPCEventsClient(s.client).Forward(ctx, req)
	if err != nil && grpcstatus.Code(err) != codes.InvalidArgument {
		s.close()
	}
	if err != nil {
		return fmt.Errorf("forward an event to containerd: %w", err)
	}
	return nil
}

func (s *sender) close() {
	if s.client != nil {
		_ = s.client.Close()
		s.client = nil
	}
}
