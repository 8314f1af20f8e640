// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readyText is what containerd logs once every server, CRI included, answers.
const readyText = "containerd successfully booted"

// terminateTimeout bounds containerd's own shutdown; it has a few seconds' worth of
// its own timeouts.
const terminateTimeout = 20 * time.Second

// daemon is one run of containerd.
type daemon struct {
	cmd    *exec.Cmd
	ready  chan struct{} // closed at readyText
	exited chan struct{} // closed when the process was waited for and its log read
	err    error         // how it ended; valid after exited
}

// startDaemon starts containerd with its log appended to log, and waits until it
// is ready. It dies with this process.
func startDaemon(ctx context.Context, ns *netns, cmd *exec.Cmd, log io.Writer) (*daemon, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open log pipe: %w", err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = ns.do(cmd.Start)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	d := &daemon{cmd: cmd, ready: make(chan struct{}), exited: make(chan struct{})}
	go d.follow(r, log)
	select {
	case <-d.ready:
		return d, nil
	case <-d.exited:
		return nil, fmt.Errorf("containerd exited at start: %w", errors.Join(d.err, errExited))
	case <-ctx.Done():
		_ = d.end(unix.SIGKILL)
		return nil, fmt.Errorf("wait for containerd: %w", ctx.Err())
	}
}

var errExited = errors.New("see its log")

// follow copies the log until containerd closes it, then reaps containerd.
func (d *daemon) follow(r *os.File, log io.Writer) {
	defer close(d.exited)
	defer func() { _ = r.Close() }()
	ready := d.ready
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		// A log that cannot be written is no reason to stop the daemon by a full pipe.
		_, _ = io.WriteString(log, line)
		if ready != nil && strings.Contains(line, readyText) {
			close(ready)
			ready = nil
		}
		if err != nil {
			break
		}
	}
	d.err = d.cmd.Wait()
}

// end signals containerd and waits until it is gone; after terminateTimeout it is
// killed, which is an error.
func (d *daemon) end(signal syscall.Signal) error {
	if err := d.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal containerd: %w", err)
	}
	select {
	case <-d.exited:
		return nil
	case <-time.After(terminateTimeout):
	}
	_ = d.cmd.Process.Kill()
	<-d.exited
	return fmt.Errorf("containerd still ran %v after signal %v", terminateTimeout, signal)
}

func (d *daemon) running() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}
