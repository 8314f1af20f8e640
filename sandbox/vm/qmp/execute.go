// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxWaiting bounds the commands without an answer.
const maxWaiting = 64

// Execute gives a command and, if result is not nil, decodes its answer there.
// A refusal is an *Error.
func (c *Client) Execute(ctx context.Context, command string, arguments, result any) error {
	return c.execute(ctx, command, arguments, result, nil)
}

// ExecuteFile is Execute with a descriptor, for the commands that take one
// (add-fd, getfd). The caller keeps file.
func (c *Client) ExecuteFile(ctx context.Context, command string, arguments, result any, file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	// Not File.Fd, which would put the descriptor in blocking mode.
	if ctrlErr := raw.Control(func(fd uintptr) {
		err = c.execute(ctx, command, arguments, result, unix.UnixRights(int(fd)))
	}); ctrlErr != nil {
		return fmt.Errorf("%s: %w", command, ctrlErr)
	}
	return err
}

func (c *Client) execute(ctx context.Context, command string, arguments, result any, rights []byte) error {
	id, wait, err := c.expect()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	defer c.forget(id)
	data, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if err := c.write(ctx, append(data, '\n'), rights); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case a := <-wait:
		if a.err != nil {
			return fmt.Errorf("%s: %w", command, a.err)
		}
		if result != nil {
			if err := json.Unmarshal(a.result, result); err != nil {
				return fmt.Errorf("decode the answer to %s: %w", command, err)
			}
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
}

// write sends one command, which a monitor that does not read could keep from
// being taken.
func (c *Client) write(ctx context.Context, data, rights []byte) error {
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.conn.SetWriteDeadline(time.Time{}); err != nil {
		return ErrClosed
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = c.conn.SetWriteDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-interrupted // or it would interrupt the next one
		}
	}()
	n, _, err := c.conn.WriteMsgUnix(data, rights, nil)
	if err == nil && n < len(data) {
		_, err = c.conn.Write(data[n:])
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		// Half of a command may be there: nothing that follows would be understood.
		_ = c.conn.Close()
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

// expect makes room for an answer.
func (c *Client) expect() (uint64, chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	if len(c.waiting) >= maxWaiting {
		return 0, nil, fmt.Errorf("%d commands wait for the machine monitor already", maxWaiting)
	}
	c.last++
	wait := make(chan answer, 1)
	c.waiting[c.last] = wait
	return c.last, wait, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}
