// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// MaxEvent bounds an event, in bytes. The longest names a container.
const MaxEvent = 512

// WriteEvent writes an event as it travels: its length in four bytes, big
// endian, and the message. Calls must not overlap.
func WriteEvent(w io.Writer, e *Event) error {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), e)
	if err != nil {
		return err
	}
	if len(b)-4 > MaxEvent {
		return fmt.Errorf("an event of %d bytes; it may have %d", len(b)-4, MaxEvent)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err = w.Write(b)
	return err
}

// ReadEvent reads an event. At the end of the stream the error is io.EOF.
func ReadEvent(r io.Reader) (*Event, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > MaxEvent {
		return nil, fmt.Errorf("an event of %d bytes; it may have 1 to %d", n, MaxEvent)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("an event of %d bytes: %w", n, io.ErrUnexpectedEOF)
	}
	e := new(Event)
	if err := proto.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("decode an event: %w", err)
	}
	if e.Event == nil {
		return nil, fmt.Errorf("an event that says nothing, or what this side does not know")
	}
	return e, nil
}
