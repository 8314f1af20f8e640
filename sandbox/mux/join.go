// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"io"
	"net"
	"sync"
)

// Join carries between a connection and a stream, until both directions have ended
// or one of the two is broken, and closes both. The end of one direction is told to
// the other side, and the other direction goes on.
func Join(conn *net.TCPConn, s *Stream) {
	var there sync.WaitGroup
	broken := func() {
		_ = conn.Close()
		_ = s.Close()
	}
	there.Go(func() {
		_, err := io.Copy(conn, s)
		if err == nil {
			err = conn.CloseWrite()
		}
		if err != nil {
			broken()
		}
	})
	_, err := io.Copy(s, conn)
	if err == nil {
		err = s.CloseWrite()
	}
	if err != nil {
		broken()
	}
	there.Wait()
	broken()
}
