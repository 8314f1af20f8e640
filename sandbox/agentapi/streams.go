// SPDX-License-Identifier: Apache-2.0

package agentapi

import "time"

// The streams of a session. All are opened by the host.
const (
	// ControlStream carries ttrpc: the host calls, the agent serves.
	ControlStream = 1
	// EventStream carries events to the host.
	EventStream = 2
	// LogStream carries the agent's log to the host.
	LogStream = 3
	// FirstStdioStream and what follows carry one stream of a process each.
	FirstStdioStream = 16
)

// The windows of the streams: how many bytes may be on the way unread.
const (
	ControlWindow = 1 << 20
	EventWindow   = 64 << 10
	StdioWindow   = 256 << 10
)

// OOMInterval is the least time between two OOM events of a container.
const OOMInterval = time.Second

const (
	// ShareTag is the name of the virtiofs share of a guest.
	ShareTag = "berth"
	// ShareDir is where the agent has it.
	ShareDir = "/run/berth/share"
	// TmpfsDir is where it has those that the containers of a pod have in common.
	TmpfsDir = "/run/berth/tmpfs"
	// DiskDir is where it has file systems on disks. It is short, because the
	// layers of an overlay have to be named on one page (mount(2)).
	DiskDir = "/disks"
)
