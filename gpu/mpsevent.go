// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The event of an MPS daemon that has ended: see mps.proto.
const (
	MPSTopic   = "/berth/gpu/mps"
	MPSTypeURL = "berth.gpu.v1.MPSEnded"
)

// MPSEvent tells of an MPS daemon that has ended under its containers.
type MPSEvent struct {
	Devices    []string // UUIDs
	Containers []string
	Daemon     int // its pid
	Status     int // as a shell has it
	Action     string
	At         time.Time
}

// Encode is the message, encoded by hand as XidEvent is.
func (e MPSEvent) Encode() []byte {
	var b []byte
	text := func(field protowire.Number, s string) {
		b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	number := func(field protowire.Number, v int) {
		b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
	}
	for _, d := range e.Devices {
		text(1, d)
	}
	for _, id := range e.Containers {
		text(2, id)
	}
	number(3, e.Daemon)
	number(4, e.Status)
	text(5, e.Action)
	return timestamp(b, 6, e.At)
}

// timestamp appends a google.protobuf.Timestamp.
func timestamp(b []byte, field protowire.Number, t time.Time) []byte {
	var at []byte
	at = protowire.AppendVarint(protowire.AppendTag(at, 1, protowire.VarintType), uint64(t.Unix()))
	at = protowire.AppendVarint(protowire.AppendTag(at, 2, protowire.VarintType), uint64(t.Nanosecond()))
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), at)
}
