// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"berth/configs"
)

// featuresType is under what name containerd registers the runtime
// specification's Features, whose value is JSON.
const featuresType = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// mountsAnnotation is where containerd 2.2 and 2.3 look for what later ones find
// in the answer to `start`.
const mountsAnnotation = "containerd.io/runtime-allow-mounts"

func (e *Env) mountsAnnotation() string {
	var all []string
	for _, t := range e.MountTransforms {
		all = append(all, t+"/*")
	}
	return strings.Join(append(all, e.MountTypes...), ",")
}

// info prints what this shim and the OCI runtime under it can do. Stdin holds
// the runtime's options as an Any, or nothing.
func (e *Env) info(ctx context.Context) error {
	input, err := readInput(e.Stdin)
	if err != nil {
		return err
	}
	reply := &types.RuntimeInfo{
		Name:    e.RuntimeType,
		Version: &types.RuntimeVersion{Version: e.Version, Revision: e.Revision},
	}
	var rt configs.Runtime
	if len(input) > 0 {
		reply.Options = new(anypb.Any)
		if err := proto.Unmarshal(input, reply.Options); err != nil {
			return fmt.Errorf("read runtime options from stdin: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		if rt, err = decodeOptions(reply.Options); err != nil {
			return err
		}
	}
	features, err := e.Features(ctx, rt)
	if err != nil {
		return fmt.Errorf("ask the OCI runtime for its features: %w", err)
	}
	if len(features) > 0 {
		reply.Features = &anypb.Any{TypeUrl: featuresType, Value: features}
	}
	if len(e.MountTypes) > 0 {
		reply.Annotations = map[string]string{mountsAnnotation: e.mountsAnnotation()}
	}
	data, err := proto.Marshal(reply)
	if err != nil {
		return err
	}
	if _, err := e.Stdout.Write(data); err != nil {
		return fmt.Errorf("print the runtime's information: %w", err)
	}
	return nil
}
