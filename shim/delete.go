// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/log"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"berth/process"
	"berth/sandbox"
)

// cleanupTimeout bounds a delete. containerd kills it after 5 s
// (io.containerd.timeout.shim.cleanup) and then reports an unknown exit; a
// little earlier there is time left for an error that says why.
const cleanupTimeout = 4500 * time.Millisecond

// replayTimeout bounds the delivery of a dead shim's events in a delete.
const replayTimeout = time.Second

// Delete finishes what a shim left of one container. The supervisor reaps no
// orphans: those of a dead shim belong to another process by now.
func (p Parts) Delete(ctx context.Context, cfg DeleteConfig) (DeleteResult, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	sup := process.NewSupervisor()
	defer sup.Close()
	d, err := sandbox.Cleanup(ctx, sandbox.CleanupRequest{
		ID: cfg.ID, Bundle: cfg.Bundle,
		Runtime: p.runtime(RuntimeConfig{Supervisor: sup, Namespace: cfg.Namespace}),
		Hooks:   p.Hooks(HooksConfig{Supervisor: sup, Namespace: cfg.Namespace}),
		RunDir:  socketDir(cfg.SocketPath),
	})
	takeOver(ctx, cfg.Identity)
	if d.Left || err != nil { // whatever is left, the shim can do it too, with more time
		letGo(ctx, cfg.Identity)
	}
	if err != nil {
		return DeleteResult{}, err
	}
	return DeleteResult{Pid: d.Pid, ExitStatus: d.Exit.Status, ExitedAt: d.Exit.At}, nil
}

// socketDir is where the sockets of a shim are, empty where that is not known.
func socketDir(socket string) string {
	if socket == "" {
		return ""
	}
	return filepath.Dir(socket)
}

// takeOver delivers the events of a shim that was killed and removes its
// socket. It does nothing while the shim is there. That containerd does not
// take the events now is no reason to call the clean-up a failure: they stay
// in the journal, for whoever comes next.
func takeOver(ctx context.Context, id Identity) {
	if id.SocketPath == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	err := Replay(ctx, PublisherConfig{
		Address: id.TTRPCAddress, Namespace: id.Namespace,
		JournalPath: journalPath(id.SocketPath), Skip: toldByReply,
	})
	if err := errors.Join(err, RemoveStaleSocket(id.SocketPath)); err != nil {
		log.L.WithError(err).Warn("take over from the shim that has gone")
	}
}

// toldByReply is true for the exit and the delete of an init: containerd
// publishes both itself, from the reply to `delete` (cleanupAfterDeadShim in
// core/runtime/v2/shim.go).
func toldByReply(topic string, event *anypb.Any) bool {
	switch topic {
	case "/tasks/delete":
		return true
	case "/tasks/exit":
		exit := new(eventsapi.TaskExit)
		return proto.Unmarshal(event.GetValue(), exit) == nil && exit.ID == exit.ContainerID
	}
	return false
}
