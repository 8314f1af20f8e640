// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"berth/configs"
)

// sockets are where the shim of a container may listen, in the order in which
// they are tried; the last is where one is begun if none does.
//
// A container of a pod that runs goes to the shim of that pod, whatever the
// configuration says by now and whatever version serves: the pod's first
// container has noted where that is. Where shims serve nodes that is also how a
// pod's later containers find theirs after an upgrade.
func (e *Env) sockets(id Identity, boot bootstrap, serves configs.Group, group string) ([]string, error) {
	pod, err := socketPath(boot.socketDir, id.Address, id.Namespace, group)
	if err != nil {
		return nil, err
	}
	var list []string
	if group != id.ID && checkName("group", group) == nil {
		if first := notedSocket(filepath.Join(filepath.Dir(id.Bundle), group)); first != "" {
			list = append(list, first)
		}
	}
	list = append(list, pod)
	if serves == configs.PerNode {
		list = append(list, e.nodeSocket(filepath.Dir(pod), id))
	}
	return slices.Compact(list), nil
}

// nodeSocket is where this version of the program serves a node. Another version
// has another socket, so that an upgrade is one: new pods go to a new shim, and
// the old one ends with the last of its pods. No group of a pod has this name,
// since none has a zero at this place.
func (e *Env) nodeSocket(dir string, id Identity) string {
	key := strings.Join([]string{filepath.Join(id.Address, id.Namespace), "node", e.RuntimeType, e.Version, e.Revision}, "\x00")
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(dir, hex.EncodeToString(sum[:])) // as long as the pod's, which was measured
}

// notedSocket is the address that noteAddress left in a bundle; empty if there
// is none that can be one.
func notedSocket(bundle string) string {
	text, err := os.ReadFile(filepath.Join(bundle, "address"))
	if err != nil {
		return ""
	}
	socket, ok := strings.CutPrefix(string(text), "unix://")
	if sum, err := hex.DecodeString(filepath.Base(socket)); !ok || err != nil || len(sum) != sha256.Size || !filepath.IsAbs(socket) {
		return ""
	}
	return socket
}

// checkShared refuses what one container asks of the process that serves it,
// where that serves all.
func (e *Env) checkShared(boot bootstrap) error {
	if cgroup := boot.options.ShimCgroup; cgroup != "" {
		return fmt.Errorf(`ShimCgroup is %q, but one shim serves all pods (group = "node"): name its cgroup in shim.toml: %w`,
			cgroup, errdefs.ErrInvalidArgument)
	}
	if e.lookup("SCHED_CORE") != "" {
		return fmt.Errorf(`SCHED_CORE is set, but one shim serves all pods (group = "node"), which would all share one core scheduling domain: use group = "pod": %w`,
			errdefs.ErrInvalidArgument)
	}
	return nil
}

// The service by which `start` tells the shim of a node that a container is on
// its way to it. It is called under the lock of the socket, so that the shim
// either has ended or stays.
const (
	nodeService    = "berth.shim.v1.Node"
	announceMethod = "Announce"
	// announceTimeout leaves a shim on a busy machine some time. containerd
	// waits for `start` as long as its client does.
	announceTimeout = 10 * time.Second
)

// announce tells the shim at id's socket of the container.
func announce(id Identity) error {
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", id.SocketPath)
	if err == nil {
		client := ttrpc.NewClient(conn)
		defer func() { _ = client.Close() }()
		err = client.Call(ctx, nodeService, announceMethod, &taskv3.ConnectRequest{ID: id.ID}, new(emptypb.Empty))
	}
	if err != nil {
		return fmt.Errorf("tell the node's shim at %s of container %q: %w", id.SocketPath, id.ID, err)
	}
	return nil
}

// Announce is the other end.
func (s *taskService) Announce(_ context.Context, r *taskv3.ConnectRequest) (*emptypb.Empty, error) {
	return empty, s.pod.Expect(r.ID)
}
