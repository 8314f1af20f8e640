// SPDX-License-Identifier: Apache-2.0

// Package agentapi is the contract between a shim and the agent in its guest:
// agent.proto, what is generated from it, and the events. PROTOCOL.md says how
// the streams are multiplexed.
//
// Neither side trusts what it reads to be well-formed, and the host not even
// that it is true: lengths are bounded here, and what a value may be is
// checked where it is used.
//
// What does not belong here: what either side does with it.
package agentapi

//go:generate ../../scripts/proto/run
