// SPDX-License-Identifier: Apache-2.0

package gpu

import "google.golang.org/protobuf/encoding/protowire"

// The event of an Xid, as clients of containerd get it: see xid.proto.
const (
	XidTopic   = "/berth/gpu/xid"
	XidTypeURL = "berth.gpu.v1.Xid"
)

// XidEvent is an Xid, what it has hit, and what is done about it.
type XidEvent struct {
	Xid
	UUID       string   // of the GPU, if known
	Containers []string // those that it has hit, see Attribute
	How        string
	Action     Action
}

// Encode is the message, encoded by hand for the reason that process/cgroup
// has: no generated package stays in an idle shim.
func (e XidEvent) Encode() []byte {
	var b []byte
	text := func(field protowire.Number, s string) {
		if s != "" {
			b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
		}
	}
	number := func(field protowire.Number, v uint64) {
		b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
	}
	text(1, e.UUID)
	text(2, e.BusID)
	number(3, uint64(e.Number))
	text(4, e.Class().String())
	text(5, e.Meaning())
	number(6, uint64(e.Pid))
	text(7, e.Name)
	for _, id := range e.Containers {
		text(8, id)
	}
	text(9, e.How)
	if e.GI >= 0 {
		number(10, uint64(e.GI))
	}
	if e.CI >= 0 {
		number(11, uint64(e.CI))
	}
	text(12, e.Message)
	text(13, e.Action.String())
	b = timestamp(b, 14, e.At)
	number(15, e.Seq)
	return b
}
