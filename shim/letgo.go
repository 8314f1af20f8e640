// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"net"
	"time"

	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// The service by which `delete` has a shim that lives forget a container that was
// cleaned up behind its back, and end if it was the last. containerd gives a shim up
// that it could not load in time, and then nobody would ever tell it.
//
// It is one request, which the shim finds in its socket whenever it comes to read it,
// and sees to whoever is there by then: a machine on which containerd gives shims up is
// one on which three calls, each after the answer to the last, may not be made in time.
const (
	ownService  = "berth.shim.v1.Shim"
	letGoMethod = "LetGo"
	// letGoPatience is how long a delete waits for the shim to have gone: what ran the
	// delete may look for it.
	letGoPatience = time.Second
)

// letGo asks for it, also when ctx has ended.
func letGo(ctx context.Context, id Identity) {
	conn, err := net.Dial("unix", id.SocketPath) // it is there at once, or never
	if err != nil {
		return // it is dead, as it should be
	}
	client := ttrpc.NewClient(conn)
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, letGoPatience)
	defer cancel()
	err = client.Call(ctx, ownService, letGoMethod, &taskv3.DeleteRequest{ID: id.ID}, new(emptypb.Empty))
	if err != nil && !errors.Is(err, ttrpc.ErrClosed) {
		log.L.WithError(err).Warn("a shim that lives was told that its container has gone, and has not said that it knows")
	}
}

// LetGo is the other end. A container whose init lives in spite of all, or that cannot
// be deleted, stays, and so does the shim.
func (s *taskService) LetGo(ctx context.Context, r *taskv3.DeleteRequest) (*emptypb.Empty, error) {
	ctx = context.WithoutCancel(ctx)
	c, err := s.pod.Container(r.ID)
	if err == nil {
		_, err = c.Wait(ctx, "")
	}
	if err == nil {
		_, err = c.Delete(ctx, "")
	}
	if err != nil && !errdefs.IsNotFound(err) {
		log.L.WithField("container", r.ID).WithError(err).Warn("it was cleaned up behind the shim's back, and cannot be let go")
		return nil, err
	}
	s.moved()
	if s.pod.Dismiss(r.ID) {
		s.end(s.pod.CloseIdle)
	}
	return empty, nil
}
