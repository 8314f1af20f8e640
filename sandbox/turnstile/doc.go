// SPDX-License-Identifier: Apache-2.0

// Package turnstile keeps a ttrpc server from leaking memory with every call.
//
// A server of github.com/containerd/ttrpc up to 1.2.10 notes a stream after it
// has begun to handle the request, and forgets it after the answer was written.
// An answer that is quicker leaves the note behind, until the connection ends:
// containerd's to a shim, never (containerd/ttrpc issue 236). [Conn] stands
// between the server and its connection and lets an answer out only once the
// server asks for what comes after its request, which it does after the note.
//
// The other ways cost more. A patched copy that a replace directive puts in
// ttrpc's place has to be kept up, and is lost on every module that builds with
// this one. A server of our own is a protocol to get right again. A connection
// that is closed now and then loses containerd its shim.
//
// As it sees every message it also knows how many answers are owed ([Conn.Owed]), which
// the server does not tell: one that ends waits for them.
//
// It is for servers of unary methods. One that fails a stream whose handler has
// answered already waits for itself.
//
// It goes when ttrpc forgets in the right order: the test that shows the leak
// says so by failing.
package turnstile
