// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// maxMessage bounds one message of the peer, in bytes.
const maxMessage = 1 << 20

// answer is what a command gets.
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
