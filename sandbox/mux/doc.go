// SPDX-License-Identifier: Apache-2.0

// Package mux carries many streams over one: the port between a host and the
// agent in its guest. ../agentapi/PROTOCOL.md is what it speaks.
//
// The host opens every stream, with the number that it likes; a guest that
// sends on another ends the session. A stream holds at most its window of bytes
// that were not read yet, in each direction, so one that nobody reads holds up
// its writer and no other stream. Whoever has something to send takes turns,
// a frame at a time. There is no timer: a peer that is silent is at fault only
// if somebody asked it with Ping.
//
// What does not belong here: what the streams carry.
package mux
