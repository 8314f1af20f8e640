// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"sync"

	"berth/process/oci"
	"berth/sandbox/agentapi"
)

// stdio joins the streams of one process to streams of the session.
type stdio struct {
	feed
	in     *input     // nil without stdin
	out    [2]*output // nil where there is none
	copies sync.WaitGroup
}

// feed is what a process gets its streams from: plain pipes, or process.Streams
// with a terminal.
type feed interface {
	oci.Stdio
	Attach(ctx context.Context) error
	CloseStdin() error
	Resize(width, height uint16) error
	Drain(ctx context.Context) error
	Close() error
}

// opening says whose streams to open.
type opening struct {
	container string
	process   uint64
	stdio     *agentapi.Stdio
	uid, gid  uint32
}

func (s *server) openStdio(ctx context.Context, o opening) (_ *stdio, retErr error) {
	st := new(stdio)
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, st.close())
		}
	}()
	if id := o.stdio.GetStdin(); id != 0 {
		stream, err := s.arrived.take(ctx, id)
		if err != nil {
			return nil, err
		}
		st.in = &input{stream: stream}
	}
	for i, id := range []uint32{o.stdio.GetStdout(), o.stdio.GetStderr()} {
		if id == 0 {
			continue
		}
		stream, err := s.arrived.take(ctx, id)
		if err != nil {
			return nil, err
		}
		st.out[i] = newOutput(stream)
	}
	var err error
	if o.stdio.GetTerminal() {
		err = s.openTerminal(ctx, st, o)
	} else {
		err = openPipes(st, o)
	}
	if err != nil {
		return nil, err
	}
	st.run()
	return st, nil
}

// run starts the copying; close ends it.
func (st *stdio) run() {
	if st.in != nil {
		st.copies.Go(func() { st.in.run(st.CloseStdin) })
	}
	for _, o := range st.out {
		if o != nil {
			st.copies.Go(o.run)
		}
	}
}

// drain returns when all that the process wrote before its exit is sent, with
// how many bytes of each output there were until then.
func (st *stdio) drain(ctx context.Context) (sent [2]uint64, err error) {
	if err := st.Drain(ctx); err != nil {
		return sent, err
	}
	for i, o := range st.out {
		if o != nil {
			if sent[i], err = o.drain(ctx); err != nil {
				return sent, err
			}
		}
	}
	return sent, nil
}

// close ends the streams. What was not drained is lost.
func (st *stdio) close() error {
	var err error
	if st.feed != nil {
		err = st.Close()
	}
	if st.in != nil {
		st.in.close()
	}
	for _, o := range st.out {
		if o != nil {
			o.close()
		}
	}
	st.copies.Wait()
	return err
}
