// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"fmt"
	"net"
)

// address is what a stream has for want of one.
type address uint32

func (address) Network() string  { return "mux" }
func (a address) String() string { return fmt.Sprintf("stream %d", uint32(a)) }

// LocalAddr names the stream; so does RemoteAddr.
func (t *Stream) LocalAddr() net.Addr { return address(t.id) }

// RemoteAddr names the stream; so does LocalAddr.
func (t *Stream) RemoteAddr() net.Addr { return address(t.id) }
