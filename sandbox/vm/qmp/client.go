// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage bounds one message of the peer, in bytes.
const maxMessage = 1 << 20

// maxWaiting bounds the commands without an answer.
const maxWaiting = 64

// Event is something that happened in the machine.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// Error is the answer to a command that was refused.
type Error struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *Error) Error() string { return e.Desc }

// ErrClosed is why a command fails that was given to, or waited at, a client
// whose peer is gone.
var ErrClosed = errors.New("the machine monitor is gone")

// Client is one connection to a monitor.
type Client struct {
	conn  *net.UnixConn
	event func(Event)
	done  chan struct{}

	writing sync.Mutex // a gate: one command is written at a time

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan answer // each with room for its answer
	err     error                  // why it ended; set before done is closed
}

type answer struct {
	result json.RawMessage
	err    error
}

// message is anything that the peer says.
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Event
	ID     uint64          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *Error          `json:"error"`
}

// Dial takes the greeting on conn and enters command mode. It takes conn over;
// on an error it is closed.
func Dial(ctx context.Context, conn *net.UnixConn, event func(Event)) (*Client, error) {
	c := &Client{conn: conn, event: event, done: make(chan struct{}), waiting: make(map[uint64]chan answer)}
	greeted := make(chan struct{})
	go c.read(greeted)
	select {
	case <-greeted:
	case <-c.done:
		return nil, fmt.Errorf("greet the machine monitor: %w", c.Err())
	case <-ctx.Done():
		c.Close()
		return nil, fmt.Errorf("greet the machine monitor: %w", context.Cause(ctx))
	}
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection ended, or nil while it stands.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and waits for the goroutine that reads.
func (c *Client) Close() {
	_ = c.conn.Close()
	<-c.done
}

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
	if err := c.write(ctx, data, rights); err != nil {
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
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.conn.SetWriteDeadline(time.Time{}); err != nil {
		return ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
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

// read hands out what the peer says until there is no more.
func (c *Client) read(greeted chan struct{}) {
	err := c.readAll(greeted)
	if err == nil || errors.Is(err, net.ErrClosed) {
		err = ErrClosed
	} else {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	_ = c.conn.Close()
	c.mu.Lock()
	c.err = err
	for id, wait := range c.waiting {
		delete(c.waiting, id)
		wait <- answer{err: err}
	}
	c.mu.Unlock()
	close(c.done)
}

func (c *Client) readAll(greeted chan struct{}) error {
	lines := bufio.NewScanner(c.conn)
	lines.Buffer(make([]byte, 0, 4<<10), maxMessage)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("decode what it says: %w", err)
		}
		switch {
		case m.Greeting != nil:
			if greeted == nil {
				return errors.New("it greets again")
			}
			close(greeted)
			greeted = nil
		case m.Name != "":
			c.event(m.Event)
		default:
			c.deliver(m)
		}
	}
	return lines.Err()
}

// deliver gives an answer to who waits for it, if anybody still does.
func (c *Client) deliver(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := c.waiting[m.ID]
	if wait == nil {
		return
	}
	delete(c.waiting, m.ID)
	a := answer{result: append(json.RawMessage(nil), m.Return...)}
	if m.Error != nil {
		a.err = m.Error
	}
	wait <- a
}
