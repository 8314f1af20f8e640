// SPDX-License-Identifier: Apache-2.0

// Package mux carries many streams over one, between a host and the agent in
// its guest. ../agentapi/PROTOCOL.md is what it speaks.
//
// # Lifecycle
//
// A [Session] is made over a transport, which it owns; Handshake begins it. It
// ends once, and Err says why: by Close here, by the end of the transport,
// because the peer broke the protocol ([ErrProtocol], with what it did), or by
// the host's Shutdown ([ErrOver]). Only the last leaves the transport open, for
// another session over it. Done is closed then, and whatever waits returns.
//
// The host opens every [Stream] and gives it its number; a guest accepts them.
// Each is closed by whoever got it, like a descriptor; a peer that closes its
// end closes the other's for writing, and what has come can still be read, also
// after the end of the session. A stream that was ended (CloseWrite) reads io.EOF at
// the far end; one that was closed without, or lost with its session, does not,
// so that a part is never taken for all.
//
// # Flow
//
// A stream has a window: so many bytes may be on the way in each direction, and
// not more before the other end has read. A stream that nobody reads therefore
// stops its own writer and nothing else: the reader of the transport never waits
// for a reader of a stream. Streams with something to send take turns, a frame
// at a time; those below 16 have every other turn among themselves. There is no
// timer: a guest may be paused. A host that is in doubt asks with Ping.
//
// # A hostile peer
//
// A session holds at most the windows of its streams and two chunks for each,
// and a frame in each direction, whatever its peer does. Each frame that a guest
// may send is paid for: its data by a window, a credit by data that it got, the
// end and the close by the open, a pong by a ping. Anything else ends the session.
//
// # Goroutines and locks
//
// A session has two goroutines, a reader and a writer of the transport. Close
// waits for them. Its one lock is held for no longer than it takes to copy what
// a stream has, and not while anything is read from the transport, written to it, or
// waited for. A Write lends its buffer to the writer, which copies from it under
// the lock, and takes it back before it returns.
//
// What does not belong here: what the streams carry, and how long to wait for a
// guest.
package mux
