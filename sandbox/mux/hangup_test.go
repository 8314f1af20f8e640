// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"testing"
)

// A stream tells that the peer has closed it, or that the session has ended,
// whether it was asked before or after; an end of data is neither.
func TestHungUp(t *testing.T) {
	for name, cut := range map[string]func(near *Stream, host, guest *Session) error{
		"close":   func(near *Stream, _, _ *Session) error { return near.Close() },
		"session": func(_ *Stream, host, _ *Session) error { return host.Close() },
		"own end": func(_ *Stream, _, guest *Session) error { return guest.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := connected(t)
			near, far := open(t, host, guest, 16, 100)
			asked := far.HungUp()
			if err := near.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := host.Ping(context.Background()); err != nil {
				t.Fatal(err)
			}
			select {
			case <-asked:
				t.Error("it was told at the end of the data")
			default:
			}
			if err := cut(near, host, guest); err != nil {
				t.Fatal(err)
			}
			<-asked
			<-far.HungUp()
		})
	}
	t.Run("asked after", func(t *testing.T) {
		host, guest := connected(t)
		near, far := open(t, host, guest, 16, 100)
		_ = near.Close()
		gone(t, host, guest)
		<-far.HungUp()
	})
	t.Run("close and session", func(t *testing.T) {
		host, guest := connected(t)
		near, far := open(t, host, guest, 16, 100)
		asked := far.HungUp()
		_ = near.Close()
		<-asked
		_ = guest.Close() // a second close of the channel would be a panic
	})
}
