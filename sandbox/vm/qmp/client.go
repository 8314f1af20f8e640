// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

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

	writing chan struct{} // a gate, capacity 1: one command is written at a time

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan answer // each with room for its answer
	err     error                  // why it ended; set before done is closed
}

// Dial takes the greeting on conn and enters command mode. It takes conn over;
// on an error it is closed.
func Dial(ctx context.Context, conn *net.UnixConn, event func(Event)) (*Client, error) {
	c := newClient(conn, event)
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

func newClient(conn *net.UnixConn, event func(Event)) *Client {
	return &Client{
		conn: conn, event: event, done: make(chan struct{}),
		writing: make(chan struct{}, 1), waiting: make(map[uint64]chan answer),
	}
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
