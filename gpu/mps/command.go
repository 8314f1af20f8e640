// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

// killTimeout bounds the wait for a program that was sent SIGKILL. One that
// sleeps in the kernel takes longer; the supervisor reaps it whenever it ends.
const killTimeout = time.Second

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 16

// limit sets what the container asked for, before there is any client. Only the
// percentage is read back: the daemon does not check what it is told of devices
// (see the package's comment).
func (p *pod) limit(ctx context.Context, r Request) error {
	if n := r.Ask.Threads; n > 0 {
		if _, err := p.tell(ctx, r.Control, fmt.Sprintf("set_default_active_thread_percentage %d", n)); err != nil {
			return err
		}
		answer, err := p.tell(ctx, r.Control, "get_default_active_thread_percentage")
		if err != nil {
			return err
		}
		if got, err := strconv.ParseFloat(strings.TrimSpace(answer), 64); err != nil || int(got) != n {
			return fmt.Errorf("the thread percentage was set to %d, and is %.40q", n, answer)
		}
	}
	if r.Ask.Memory == 0 {
		return nil
	}
	names := slices.Clone(r.Devices)
	for i := range r.Devices {
		names = append(names, strconv.Itoa(i))
	}
	for _, name := range names {
		if _, err := p.tell(ctx, r.Control, fmt.Sprintf("set_default_device_pinned_mem_limit %s %dM", name, r.Ask.Memory)); err != nil {
			return err
		}
	}
	return nil
}

// tell gives the daemon one command, by NVIDIA's own program.
func (p *pod) tell(ctx context.Context, control, command string) (string, error) {
	in, stdin, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	_, err = stdin.WriteString(command + "\n") // less than a pipe holds
	if closed := stdin.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { _ = out.Close() }()
	tool, err := p.Supervisor.Start(&process.Command{
		Path: p.Helper, Args: append(p.view(), control), Env: p.env(), Files: []*os.File{in, stdout, stdout}, DieWithParent: true,
	})
	_ = stdout.Close()
	if err != nil {
		return "", err
	}
	// Whoever else has the pipe must not keep us.
	defer context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Unix(1, 0)) })()
	answer, _ := io.ReadAll(io.LimitReader(out, maxAnswer))
	if err := end(ctx, tool); err != nil {
		return "", fmt.Errorf("%q: %w", command, err)
	}
	if exit := tool.Exit(); exit.Status != 0 {
		return "", fmt.Errorf("%q: status %d, %.200q", command, exit.Status, strings.TrimSpace(string(answer)))
	}
	return string(answer), nil
}

// end waits for the end of a program, and kills it when ctx is over.
func end(ctx context.Context, p *process.Process) error {
	select {
	case <-p.Done():
		return nil
	case <-ctx.Done():
	}
	_ = p.Signal(unix.SIGKILL)
	timer := time.NewTimer(killTimeout)
	defer timer.Stop()
	select {
	case <-p.Done():
		return fmt.Errorf("it gave no answer, and was killed: %w", ctx.Err())
	case <-timer.C:
		return fmt.Errorf("it gave no answer, and does not die: %w", ctx.Err())
	}
}
