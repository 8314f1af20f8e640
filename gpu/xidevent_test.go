// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
)

// xidMessage reads the one message of xid.proto, in the little of the language
// that it uses.
func xidMessage(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	text, err := os.ReadFile("xid.proto")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]descriptorpb.FieldDescriptorProto_Type{
		"string": descriptorpb.FieldDescriptorProto_TYPE_STRING, "uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32,
		"uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64, "google.protobuf.Timestamp": descriptorpb.FieldDescriptorProto_TYPE_MESSAGE,
	}
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("xid.proto"), Syntax: proto.String("proto3"),
		Dependency: []string{"google/protobuf/timestamp.proto"}, MessageType: []*descriptorpb.DescriptorProto{{}}}
	m := file.MessageType[0]
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), ";"))
		if len(w) > 0 && w[0] == "package" {
			file.Package = &w[1]
		}
		if len(w) > 0 && w[0] == "message" {
			m.Name = &w[1]
		}
		if len(w) < 4 || w[len(w)-2] != "=" || w[0] == "syntax" {
			continue
		}
		number, err := strconv.Atoi(w[len(w)-1])
		kind, known := types[w[len(w)-4]]
		if err != nil || !known {
			t.Fatalf("line %q is not understood", line)
		}
		f := &descriptorpb.FieldDescriptorProto{Name: &w[len(w)-3], Number: proto.Int32(int32(number)), Type: &kind,
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		switch w[0] {
		case "repeated":
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		case "optional":
			f.Proto3Optional, f.OneofIndex = proto.Bool(true), proto.Int32(int32(len(m.OneofDecl)))
			m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("_" + f.GetName())})
		}
		if kind == descriptorpb.FieldDescriptorProto_TYPE_MESSAGE {
			f.TypeName = proto.String("." + w[len(w)-4])
		}
		m.Field = append(m.Field, f)
	}
	fd, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().Get(0)
}

func TestXidEventIsItsMessage(t *testing.T) {
	desc := xidMessage(t)
	if desc.FullName() != XidTypeURL || desc.Fields().Len() != 15 {
		t.Fatalf("%s has %d fields", desc.FullName(), desc.Fields().Len())
	}
	full := XidEvent{
		Xid:  Xid{Seq: 1 << 40, At: time.Unix(1700000000, 5000), BusID: barBus, GI: 0, CI: 3, Number: 31, Pid: 4194304, Name: "p", Message: "MMU"},
		UUID: "GPU-1", Containers: []string{"a", "b"}, How: ByInstance, Action: Action{Report: true, Kill: true},
	}
	for want, e := range map[string]XidEvent{
		`{"gpuUuid":"GPU-1","busId":"0000:3b:00.0","xid":31,"class":"app","meaning":"GPU memory page fault","pid":4194304,` +
			`"processName":"p","containerIds":["a","b"],"attribution":"mig","gpuInstance":0,"computeInstance":3,"message":"MMU",` +
			`"action":"kill","timestamp":"2023-11-14T22:13:20.000005Z","seq":"1099511627776"}`: full,
		`{"busId":"0000:3b:00.0","xid":999,"class":"unknown","action":"ignore","timestamp":"2023-11-14T22:13:20Z"}`: {Xid: Xid{
			At: time.Unix(1700000000, 0), BusID: barBus, GI: -1, CI: -1, Number: 999}},
	} {
		m := dynamicpb.NewMessage(desc)
		if err := proto.Unmarshal(e.Encode(), m); err != nil {
			t.Fatal(err)
		}
		got, err := protojson.Marshal(m)
		if err != nil || strings.ReplaceAll(string(got), " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s, %v\nwant %s", got, err, want)
		}
		if len(m.GetUnknown()) > 0 {
			t.Errorf("fields that xid.proto does not have: %x", m.GetUnknown())
		}
	}
}
