// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"strings"
	"testing"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func params(t testing.TB, p *bootstrapapi.BootstrapParams, extensions ...proto.Message) []byte {
	t.Helper()
	for _, e := range extensions {
		if err := p.AddExtension(e); err != nil {
			t.Fatal(err)
		}
	}
	return marshal(t, p)
}

func TestDecodeBootstrap(t *testing.T) {
	dir := "/x"
	bare := &anypb.Any{TypeUrl: runcOptionsName, Value: marshal(t, &runcoptions.Options{ShimCgroup: "/s"})}
	stranger := &anypb.Any{TypeUrl: "example.com/some.Type", Value: []byte{1}}
	for name, c := range map[string]struct {
		input []byte
		want  bootstrap
	}{
		"empty":      {nil, bootstrap{protocol: 2}},
		"bare":       {marshal(t, bare), bootstrap{protocol: 2, options: optionsWithCgroup("/s")}},
		"new":        {params(t, &bootstrapapi.BootstrapParams{InstanceID: "id", Namespace: "ns"}), bootstrap{protocol: 3}},
		"debug":      {params(t, &bootstrapapi.BootstrapParams{InstanceID: "id", Namespace: "ns", LogLevel: -4}), bootstrap{protocol: 3, debug: true}},
		"trace":      {params(t, &bootstrapapi.BootstrapParams{InstanceID: "id", Namespace: "ns", LogLevel: -8}), bootstrap{protocol: 3, debug: true}},
		"directory":  {params(t, &bootstrapapi.BootstrapParams{InstanceID: "id", Namespace: "ns", SocketDir: &dir}), bootstrap{protocol: 3, socketDir: dir}},
		"options":    {params(t, &bootstrapapi.BootstrapParams{InstanceID: "id", Namespace: "ns"}, bare), bootstrap{protocol: 3, options: optionsWithCgroup("/s")}},
		"extensions": {params(t, &bootstrapapi.BootstrapParams{InstanceID: "id", Namespace: "ns"}, stranger, bare), bootstrap{protocol: 3, options: optionsWithCgroup("/s")}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := decodeBootstrap(c.input, "id", "ns"); got != c.want || err != nil {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
	// BootstrapParams for another container decode as an Any of type "other".
	if _, err := decodeBootstrap(params(t, &bootstrapapi.BootstrapParams{InstanceID: "other", Namespace: "ns"}), "id", "ns"); err == nil ||
		!strings.Contains(err.Error(), `"other"`) {
		t.Errorf("params of another container: %v", err)
	}
}

func FuzzDecodeBootstrap(f *testing.F) {
	f.Add([]byte{})
	f.Add(params(f, &bootstrapapi.BootstrapParams{InstanceID: "id", Namespace: "ns"}, &runcoptions.Options{Root: "/r"}))
	f.Add(marshal(f, &anypb.Any{TypeUrl: runcOptionsName, Value: marshal(f, &runcoptions.Options{Root: "/r"})}))
	f.Add(marshal(f, &anypb.Any{TypeUrl: genericOptionsName, Value: []byte("\x1a\x06A=true")}))
	f.Fuzz(func(t *testing.T, input []byte) {
		b, err := decodeBootstrap(input, "id", "ns")
		if err == nil && b.protocol != 2 && b.protocol != 3 {
			t.Errorf("%+v", b)
		}
	})
}
