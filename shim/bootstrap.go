// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"berth/configs"
)

// maxBootstrap bounds what is read from containerd on stdin, in bytes.
const maxBootstrap = 16 << 20

// Versions of the protocol between containerd and a running shim.
const (
	// legacyProtocol is the Task service v2, the most that containerd 1.7
	// takes and what its containers are recorded with.
	legacyProtocol = 2
	// currentProtocol is the Task service v3. A shim serves both.
	currentProtocol = 3
)

// bootstrap is what containerd says on the stdin of `start`.
type bootstrap struct {
	options   configs.Runtime
	socketDir string // empty for the default
	debug     bool
	protocol  int // the highest that the caller is to be told
}

// decodeBootstrap understands both forms of stdin. containerd 2.3 and newer
// send BootstrapParams. Older ones send the runtime's options as a bare Any,
// or nothing. Each of the two messages also decodes as the other (both begin
// with two fields of text), so it is BootstrapParams if and only if it names
// the container and namespace of the command line: an Any would need a
// container with the name of a message type.
func decodeBootstrap(input []byte, id, namespace string) (bootstrap, error) {
	params := new(bootstrapapi.BootstrapParams)
	if err := proto.Unmarshal(input, params); err == nil &&
		params.GetInstanceID() == id && params.GetNamespace() == namespace {
		return decodeParams(params)
	}
	if len(input) == 0 {
		return bootstrap{protocol: legacyProtocol}, nil
	}
	options := new(anypb.Any)
	if err := proto.Unmarshal(input, options); err != nil {
		return bootstrap{}, fmt.Errorf("read stdin: neither BootstrapParams for %q in %q nor runtime options: %w: %w",
			id, namespace, err, errdefs.ErrInvalidArgument)
	}
	rt, err := decodeOptions(options)
	if err != nil {
		return bootstrap{}, fmt.Errorf("read stdin as runtime options, since it is not BootstrapParams for %q in %q: %w",
			id, namespace, err)
	}
	return bootstrap{options: rt, protocol: legacyProtocol}, nil
}

// decodeParams ignores extensions that are not runtime options, as the
// protocol asks.
func decodeParams(params *bootstrapapi.BootstrapParams) (bootstrap, error) {
	b := bootstrap{
		socketDir: params.GetSocketDir(),
		debug:     params.GetLogLevel() <= bootstrapapi.LogLevel_LOG_LEVEL_DEBUG,
		protocol:  currentProtocol,
	}
	for _, extension := range params.GetExtensions() {
		value := extension.GetValue()
		if !isOptions(value) {
			continue
		}
		rt, err := decodeOptions(value)
		if err != nil {
			return bootstrap{}, err
		}
		b.options = rt
		break
	}
	return b, nil
}

// reply is containerd.runtime.bootstrap.v1.BootstrapResult as JSON. JSON is
// what every containerd from 1.7 on understands; the message itself is
// understood from 2.3 on.
type reply struct {
	Version    int         `json:"version"`
	Address    string      `json:"address"`
	Protocol   string      `json:"protocol"`
	Extensions []extension `json:"extensions"`
}

type extension struct {
	Value extensionValue `json:"value"`
}

type extensionValue struct {
	TypeURL string `json:"type_url"`
	Value   []byte `json:"value"` // base64
}

// writeReply answers `start`. The message about mounts may be empty, that is,
// the shim does none of them itself; without it containerd would run the program
// again for every container to ask.
func (e *Env) writeReply(version int, address string) error {
	mounts, err := proto.Marshal(&types.MountCapabilities{Types: e.MountTypes, Transforms: e.MountTransforms})
	if err != nil {
		return err
	}
	data, err := json.Marshal(reply{
		Version: version, Address: address, Protocol: "ttrpc",
		Extensions: []extension{{extensionValue{
			TypeURL: "type.googleapis.com/containerd.types.MountCapabilities",
			Value:   append([]byte{}, mounts...), // not null
		}}},
	})
	if err != nil {
		return err
	}
	if _, err := e.Stdout.Write(data); err != nil {
		return fmt.Errorf("reply to containerd: %w", err)
	}
	return nil
}

// readInput reads all of stdin, or nothing if stdin is a terminal: a person
// who tries the command must not have to end a file that they do not know of.
func readInput(r io.Reader) ([]byte, error) {
	if f, ok := r.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&fs.ModeCharDevice != 0 {
			return nil, nil
		}
	}
	input, err := io.ReadAll(io.LimitReader(r, maxBootstrap+1))
	if err != nil {
		return nil, fmt.Errorf("read stdin: %w", err)
	}
	if len(input) > maxBootstrap {
		return nil, fmt.Errorf("read stdin: more than %d bytes: %w", maxBootstrap, errdefs.ErrInvalidArgument)
	}
	return input, nil
}
