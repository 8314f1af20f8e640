// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"berth/process"
)

// openTerminal has process.Streams keep the terminal. Between that and the
// streams of the session are FIFOs, which is what it takes; their names are
// gone when this returns.
func (s *server) openTerminal(ctx context.Context, st *stdio, o opening) error {
	names := process.Stdio{Terminal: true}
	for _, want := range []struct {
		there bool
		name  string
		into  *string
	}{{st.in != nil, "stdin", &names.Stdin}, {st.out[0] != nil, "stdout", &names.Stdout}} {
		if !want.there {
			continue
		}
		path := filepath.Join(s.cfg.Dir, fmt.Sprintf("%d-%s", o.process, want.name))
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return fmt.Errorf("make %s fifo: %w", want.name, err)
		}
		defer func() { _ = os.Remove(path) }()
		*want.into = path
	}
	streams, err := process.OpenStreams(ctx, process.StreamsConfig{
		ID: o.container, Stdio: names, UID: int(o.uid), GID: int(o.gid),
		Supervisor: s.cfg.Supervisor, RunDir: s.cfg.Dir,
	})
	if err != nil {
		return err
	}
	st.feed = streams
	// The other ends are open by now, so neither of these waits.
	if st.in != nil {
		if st.in.file, err = os.OpenFile(names.Stdin, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
	}
	if st.out[0] != nil {
		f, err := os.OpenFile(names.Stdout, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return st.out[0].from(f)
	}
	return nil
}
