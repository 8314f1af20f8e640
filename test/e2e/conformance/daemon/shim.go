// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Shim is a connection to a running shim.
type Shim struct {
	Address string
	Version int32 // of the Task service that the shim asks for
	Reply   []byte
	Task    task.TTRPCTaskService
	TaskV2  taskv2.TTRPCTaskService

	client *ttrpc.Client
	conn   *net.UnixConn // the client's
}

// Start executes the shim's "start" for the bundle and connects to the address
// that it prints: a new shim's or, within a group, a running one's.
func (d *Daemon) Start(ctx context.Context, bundle *Bundle) (*Shim, error) {
	socketDir := d.Dir + "/s"
	params := &bootapi.BootstrapParams{
		InstanceID:             bundle.ID,
		Namespace:              d.Name,
		ContainerdVersion:      "v2.4.2",
		ContainerdTtrpcAddress: d.Events.Path,
		ContainerdGrpcAddress:  d.Dir + "/grpc.sock",
		ContainerdBinary:       "/bin/false",
		SocketDir:              &socketDir,
	}
	stdin, err := proto.Marshal(params)
	if err != nil {
		return nil, err
	}
	return d.StartWith(ctx, bundle, stdin)
}

// StartWith is Start with a given standard input, as other versions of
// containerd send.
func (d *Daemon) StartWith(ctx context.Context, bundle *Bundle, stdin []byte) (*Shim, error) {
	cmd := d.command(bundle, "start")
	cmd.Stdin = bytes.NewReader(stdin)
	// One buffer for both, as containerd does: a byte on stderr spoils the reply.
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("shim start: %w: %s", err, bytes.TrimSpace(out))
	}
	result, err := parseReply(out)
	if err != nil {
		return nil, err
	}
	shim, err := Dial(ctx, result.Address)
	if err != nil {
		return nil, err
	}
	shim.Version, shim.Reply = result.Version, out
	return shim, nil
}

// Dial connects to a shim by its address.
func Dial(ctx context.Context, address string) (*Shim, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", strings.TrimPrefix(address, "unix://"))
	if err != nil {
		return nil, fmt.Errorf("connect to shim: %w", err)
	}
	client := ttrpc.NewClient(conn)
	return &Shim{
		Address: address,
		Task:    task.NewTTRPCTaskClient(client),
		TaskV2:  taskv2.NewTTRPCTaskClient(client),
		client:  client,
		conn:    conn.(*net.UnixConn),
	}, nil
}

// parseReply reads what "start" printed, a protobuf message or JSON, in the
// order in which containerd tries them.
func parseReply(out []byte) (*bootapi.BootstrapResult, error) {
	result := &bootapi.BootstrapResult{}
	if err := proto.Unmarshal(out, result); err == nil && result.Address != "" {
		return result, nil
	}
	result = &bootapi.BootstrapResult{}
	if err := json.Unmarshal(out, result); err != nil {
		return nil, fmt.Errorf("parse the reply of start %q: %w", out, err)
	}
	if result.Address == "" || result.Version < 2 || result.Protocol != "ttrpc" {
		return nil, fmt.Errorf("the reply of start lacks a field: %q", out)
	}
	return result, nil
}

// Close drops the connection; the shim lives on.
func (s *Shim) Close() error { return s.client.Close() }

// Leave ends the client's side of the connection. Its calls end when the shim has
// closed the other, and so has noticed.
func (s *Shim) Leave() error { return s.conn.CloseWrite() }

// Delete executes the shim's "delete" for the bundle, which containerd does
// whenever a connection to a shim closes, and returns its answer.
func (d *Daemon) Delete(bundle *Bundle) (*task.DeleteResponse, error) {
	cmd := d.command(bundle, "delete", "-bundle", bundle.Dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("shim delete: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	response := &task.DeleteResponse{}
	if err := proto.Unmarshal(stdout.Bytes(), response); err != nil {
		return nil, fmt.Errorf("parse the reply of delete: %w", err)
	}
	return response, nil
}

// Info executes "-info" and returns its standard output.
func (d *Daemon) Info(args ...string) ([]byte, error) {
	cmd := d.command(&Bundle{ID: "info", Dir: d.Dir}, "")
	cmd.Args = append(cmd.Args[:1], args...)
	return cmd.Output()
}

// Options are the runtime options of every Create.
func (d *Daemon) Options() (*anypb.Any, error) {
	if d.Guest != "" { // the runtime is the guest's
		return typeurl.MarshalAnyToProto(&runcoptions.Options{})
	}
	return typeurl.MarshalAnyToProto(&runcoptions.Options{BinaryName: d.Runtime, Root: d.Dir + "/r"})
}

// CreateRequest is what containerd would send for the bundle; streams may be
// the zero value.
func (d *Daemon) CreateRequest(bundle *Bundle, streams Streams) (*task.CreateTaskRequest, error) {
	options, err := d.Options()
	if err != nil {
		return nil, fmt.Errorf("marshal options: %w", err)
	}
	return &task.CreateTaskRequest{
		ID: bundle.ID, Bundle: bundle.Dir, Rootfs: d.Rootfs(), Options: options,
		Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr,
	}, nil
}
