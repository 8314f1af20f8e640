// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// stdio joins the streams of one process to streams of the session. Between
// the two are FIFOs, which is what process.Streams takes; their names are gone
// when openStdio returns.
type stdio struct {
	*process.Streams
	in     *input     // nil without stdin
	out    [2]*output // nil where there is none
	copies sync.WaitGroup
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
	fifo := func(name string) string {
		return filepath.Join(s.cfg.Dir, fmt.Sprintf("%d-%s", o.process, name))
	}
	defer func() {
		for _, name := range []string{"stdin", "stdout", "stderr"} {
			_ = os.Remove(fifo(name))
		}
		if retErr != nil {
			retErr = errors.Join(retErr, st.close())
		}
	}()
	names := process.Stdio{Terminal: o.stdio.GetTerminal()}
	streams := make(map[string]*mux.Stream)
	for _, want := range []struct {
		name string
		id   uint32
		into *string
	}{
		{"stdin", o.stdio.GetStdin(), &names.Stdin},
		{"stdout", o.stdio.GetStdout(), &names.Stdout},
		{"stderr", o.stdio.GetStderr(), &names.Stderr},
	} {
		if want.id == 0 {
			continue
		}
		stream, err := s.arrived.take(ctx, want.id)
		if err != nil {
			return nil, err
		}
		switch want.name {
		case "stdin":
			st.in = &input{stream: stream}
		case "stdout":
			st.out[0] = newOutput(stream)
		case "stderr":
			st.out[1] = newOutput(stream)
		}
		streams[want.name] = stream
		*want.into = fifo(want.name)
		if err := unix.Mkfifo(*want.into, 0o600); err != nil {
			return nil, fmt.Errorf("make %s fifo: %w", want.name, err)
		}
	}
	var err error
	st.Streams, err = process.OpenStreams(ctx, process.StreamsConfig{
		ID: o.container, Stdio: names, UID: int(o.uid), GID: int(o.gid),
		Supervisor: s.cfg.Supervisor, RunDir: s.cfg.Dir,
	})
	if err != nil {
		return nil, err
	}
	// The other ends are open by now, so none of these waits.
	if st.in != nil {
		if st.in.fifo, err = os.OpenFile(names.Stdin, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
			return nil, err
		}
	}
	for i, name := range []string{names.Stdout, names.Stderr} {
		if st.out[i] != nil {
			if err := st.out[i].open(name); err != nil {
				return nil, err
			}
		}
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
	if st.Streams != nil {
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
