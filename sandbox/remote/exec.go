// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
	"berth/sandbox/agentapi"
)

// Exec starts one more process in the guest.
func (rt *Runtime) Exec(ctx context.Context, q *oci.ExecRequest) (*process.Process, error) {
	r, err := rt.life.of(q.ID)
	if err != nil {
		return nil, err
	}
	spec, err := guestProcess(q.Process)
	if err != nil {
		return nil, err
	}
	number, proc, err := r.newProcess(q.ID)
	if err != nil {
		return nil, err
	}
	streams := q.Streams.(*stdio)
	ids, err := streams.join(ctx, r, number)
	if err == nil {
		err = settle(ctx, r, runtimeTimeout, "exec", r.agent.Exec, &agentapi.ExecRequest{
			Container: q.ID, Process: number, Spec: spec, Stdio: ids, IoUid: streams.uid, IoGid: streams.gid,
		}, func(ctx context.Context) error { return r.endExec(ctx, q.ID, number) })
	}
	if err != nil {
		r.forgetProcess(number)
		return nil, err
	}
	return proc, nil
}

// endExec ends an exec that nobody will hear of.
func (r *guest) endExec(ctx context.Context, container string, number uint64) error {
	_, err := call(ctx, r, signalTimeout, "end an exec", r.agent.Signal,
		&agentapi.SignalRequest{Process: number, Container: container, Signal: uint32(unix.SIGKILL)})
	_, released := call(ctx, r, signalTimeout, "end an exec", r.agent.Release, &agentapi.ProcessRequest{Process: number})
	return errors.Join(ignoreNotFound(err), ignoreNotFound(released))
}
