// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"berth/configs"
	"berth/process/oci"
)

func optionsWithCgroup(path string) configs.Runtime { return configs.Runtime{ShimCgroup: path} }

var allOptions = configs.Runtime{
	NoPivotRoot: true, NoNewKeyring: true, SystemdCgroup: true, ShimCgroup: "/shims", BinaryName: "crun",
	Root: "/run/r", CriuImagePath: "/i", CriuWorkPath: "/w", IOUID: 1000, IOGID: 4294967295,
}

const allTOML = `# as containerd writes a map
BinaryName = 'crun'
CriuImagePath = '/i'
CriuWorkPath = '/w'
IoGid = 4294967295
IoUid = 1000
NoNewKeyring = true
NoPivotRoot = true
Root = '/run/r'
ShimCgroup = '/shims'
SystemdCgroup = true
`

func asAny(t testing.TB, name string, m proto.Message) *anypb.Any {
	return &anypb.Any{TypeUrl: name, Value: marshal(t, m)}
}

func TestDecodeOptions(t *testing.T) {
	runc := &runcoptions.Options{
		NoPivotRoot: true, NoNewKeyring: true, SystemdCgroup: true, ShimCgroup: "/shims", BinaryName: "crun",
		Root: "/run/r", CriuImagePath: "/i", CriuWorkPath: "/w", IoUid: 1000, IoGid: 4294967295,
	}
	file := filepath.Join(t.TempDir(), "pod.toml")
	if err := os.WriteFile(file, []byte(allTOML), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		any  *anypb.Any
		want configs.Runtime
	}{
		"nil":           {nil, configs.Runtime{}},
		"empty":         {&anypb.Any{}, configs.Runtime{}},
		"runc":          {asAny(t, runcOptionsName, runc), allOptions},
		"runc by URL":   {asAny(t, "type.googleapis.com/"+runcOptionsName, runc), allOptions},
		"TOML":          {asAny(t, genericOptionsName, &runtimeoptions.Options{ConfigBody: []byte(allTOML)}), allOptions},
		"file":          {asAny(t, genericOptionsName, &runtimeoptions.Options{ConfigPath: file}), allOptions},
		"file and TOML": {asAny(t, genericOptionsName, &runtimeoptions.Options{ConfigPath: file, ConfigBody: []byte("x")}), allOptions},
		"no TOML":       {asAny(t, genericOptionsName, &runtimeoptions.Options{}), configs.Runtime{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := decodeOptions(c.any); got != c.want || err != nil {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestDecodeOptionsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		any  *anypb.Any
		want string
	}{
		"another type":  {&anypb.Any{TypeUrl: "example.com/some.Type"}, "example.com/some.Type"},
		"no type":       {&anypb.Any{Value: []byte{1}}, "not known"},
		"unknown key":   {asAny(t, genericOptionsName, &runtimeoptions.Options{ConfigBody: []byte("Rooot = '/'")}), `"Rooot" is not known; known are BinaryName, `},
		"relative Root": {asAny(t, runcOptionsName, &runcoptions.Options{Root: "run"}), "absolute"},
		"ShimCgroup":    {asAny(t, runcOptionsName, &runcoptions.Options{ShimCgroup: "/a/../../b"}), "ShimCgroup"},
		"broken":        {&anypb.Any{TypeUrl: runcOptionsName, Value: []byte{0xff}}, runcOptionsName},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeOptions(c.any)
			if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), c.want) || got != (configs.Runtime{}) {
				t.Errorf("got %+v, %v; want an error with %q", got, err, c.want)
			}
		})
	}
	missing := asAny(t, genericOptionsName, &runtimeoptions.Options{ConfigPath: "/nonexistent/pod.toml"})
	if _, err := decodeOptions(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	endless := asAny(t, genericOptionsName, &runtimeoptions.Options{ConfigPath: "/dev/zero"})
	if _, err := decodeOptions(endless); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("endless file: %v", err)
	}
}

func TestDecodeCheckpointOptions(t *testing.T) {
	got, err := decodeCheckpointOptions(asAny(t, checkpointOptionsName, &runcoptions.CheckpointOptions{
		Exit: true, OpenTcp: true, ExternalUnixSockets: true, Terminal: true, FileLocks: true,
		EmptyNamespaces: []string{"network"}, CgroupsMode: "soft", ImagePath: "/i", WorkPath: "/w", ParentPath: "../p",
	}))
	want := oci.CheckpointRequest{Exit: true, CRIU: oci.CRIU{
		OpenTCP: true, ExternalUnixSockets: true, ShellJob: true, FileLocks: true,
		EmptyNamespaces: []string{"network"}, CgroupsMode: "soft", ImagePath: "/i", WorkPath: "/w", ParentPath: "../p",
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := decodeCheckpointOptions(nil); err != nil || !reflect.DeepEqual(got, oci.CheckpointRequest{}) {
		t.Errorf("none: %+v, %v", got, err)
	}
	if _, err := decodeCheckpointOptions(&anypb.Any{TypeUrl: runcOptionsName}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("another type: %v", err)
	}
}

func FuzzDecodeOptions(f *testing.F) {
	f.Add(runcOptionsName, []byte{0x48, 1})
	f.Add(genericOptionsName, []byte("\x1a\x14SystemdCgroup = true"))
	f.Add(checkpointOptionsName, []byte{8, 1})
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		a := &anypb.Any{TypeUrl: name, Value: value}
		if strings.Contains(string(value), "/") {
			return // it may name a file
		}
		if rt, err := decodeOptions(a); err == nil && rt.Validate() != nil {
			t.Errorf("%+v is not valid", rt)
		}
		_, _ = decodeCheckpointOptions(a)
	})
}
