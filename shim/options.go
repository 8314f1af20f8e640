// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"io"
	"os"
	"strings"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"berth/configs"
	"berth/process/oci"
)

// The messages in which runtime options come. The first is sent by clients
// such as ctr, and by the CRI for runc's own shim; the second by the CRI for
// every other shim, with TOML inside.
const (
	runcOptionsName       = "containerd.runc.v1.Options"
	genericOptionsName    = "runtimeoptions.v1.Options"
	checkpointOptionsName = "containerd.runc.v1.CheckpointOptions"
)

// maxConfigFile bounds an options file, in bytes.
const maxConfigFile = 1 << 20

// messageName is a type URL without what comes before its last slash:
// containerd writes the bare name, protobuf's own libraries a URL.
func messageName(a *anypb.Any) string {
	url := a.GetTypeUrl()
	return url[strings.LastIndexByte(url, '/')+1:]
}

// isOptions tells whether decodeOptions knows the type.
func isOptions(a *anypb.Any) bool {
	name := messageName(a)
	return name == runcOptionsName || name == genericOptionsName
}

// decodeOptions reads runtime options of either kind; nil and an empty Any
// are the defaults. The error is errdefs.ErrInvalidArgument, save where a
// file named by the options cannot be read.
func decodeOptions(a *anypb.Any) (configs.Runtime, error) {
	if a.GetTypeUrl() == "" && len(a.GetValue()) == 0 {
		return configs.Runtime{}, nil
	}
	var (
		rt  configs.Runtime
		err error
	)
	switch messageName(a) {
	case runcOptionsName:
		rt, err = decodeRuncOptions(a.GetValue())
	case genericOptionsName:
		rt, err = decodeGenericOptions(a.GetValue())
	default:
		err = fmt.Errorf("type %.128q is not known; known are %s and %s: %w",
			a.GetTypeUrl(), runcOptionsName, genericOptionsName, errdefs.ErrInvalidArgument)
	}
	if err == nil {
		err = rt.Validate()
	}
	if err != nil {
		return configs.Runtime{}, fmt.Errorf("read runtime options: %w", err)
	}
	return rt, nil
}

func decodeRuncOptions(value []byte) (configs.Runtime, error) {
	o := new(runcoptions.Options)
	if err := proto.Unmarshal(value, o); err != nil {
		return configs.Runtime{}, fmt.Errorf("%s: %w: %w", runcOptionsName, err, errdefs.ErrInvalidArgument)
	}
	return configs.Runtime{
		NoPivotRoot:   o.GetNoPivotRoot(),
		NoNewKeyring:  o.GetNoNewKeyring(),
		SystemdCgroup: o.GetSystemdCgroup(),
		ShimCgroup:    o.GetShimCgroup(),
		BinaryName:    o.GetBinaryName(),
		Root:          o.GetRoot(),
		CriuImagePath: o.GetCriuImagePath(),
		CriuWorkPath:  o.GetCriuWorkPath(),
		IOUID:         o.GetIoUid(),
		IOGID:         o.GetIoGid(),
	}, nil
}

// decodeGenericOptions prefers the file, as the message's definition says.
func decodeGenericOptions(value []byte) (configs.Runtime, error) {
	o := new(runtimeoptions.Options)
	if err := proto.Unmarshal(value, o); err != nil {
		return configs.Runtime{}, fmt.Errorf("%s: %w: %w", genericOptionsName, err, errdefs.ErrInvalidArgument)
	}
	text, source := o.GetConfigBody(), "the options in containerd's configuration"
	if path := o.GetConfigPath(); path != "" {
		var err error
		if text, err = readConfigFile(path); err != nil {
			return configs.Runtime{}, fmt.Errorf("read the file named by ConfigPath: %w", err)
		}
		source = path
	}
	rt, err := configs.ParseTOML(text)
	if err != nil {
		return configs.Runtime{}, fmt.Errorf("%s: %w", source, err)
	}
	return rt, nil
}

func readConfigFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err == nil && len(text) > maxConfigFile {
		err = fmt.Errorf("%s has more than %d bytes: %w", path, maxConfigFile, errdefs.ErrInvalidArgument)
	}
	return text, err
}

// decodeCheckpointOptions reads the options of a checkpoint; nil and an empty
// Any are the defaults. The error is errdefs.ErrInvalidArgument.
func decodeCheckpointOptions(a *anypb.Any) (oci.CheckpointRequest, error) {
	if a.GetTypeUrl() == "" && len(a.GetValue()) == 0 {
		return oci.CheckpointRequest{}, nil
	}
	if messageName(a) != checkpointOptionsName {
		return oci.CheckpointRequest{}, fmt.Errorf("read checkpoint options: type %.128q is not known; known is %s: %w",
			a.GetTypeUrl(), checkpointOptionsName, errdefs.ErrInvalidArgument)
	}
	o := new(runcoptions.CheckpointOptions)
	if err := proto.Unmarshal(a.GetValue(), o); err != nil {
		return oci.CheckpointRequest{}, fmt.Errorf("read checkpoint options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return oci.CheckpointRequest{
		CRIU: oci.CRIU{
			ImagePath:           o.GetImagePath(),
			WorkPath:            o.GetWorkPath(),
			ParentPath:          o.GetParentPath(),
			OpenTCP:             o.GetOpenTcp(),
			ExternalUnixSockets: o.GetExternalUnixSockets(),
			ShellJob:            o.GetTerminal(),
			FileLocks:           o.GetFileLocks(),
			EmptyNamespaces:     o.GetEmptyNamespaces(),
			CgroupsMode:         o.GetCgroupsMode(),
		},
		Exit: o.GetExit(),
	}, nil
}
