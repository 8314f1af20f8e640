// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"os"
	"strings"
	"testing"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"

	"github.com/containerd/typeurl/v2"
)

// What containerd up to 2.2 sends: the bare options, or nothing.
func TestBootstrapLegacy(t *testing.T) {
	h := newHost(t)
	options, err := h.Options()
	if err != nil {
		t.Fatal(err)
	}
	bare, err := proto.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	for name, stdin := range map[string][]byte{"options": bare, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			bundle, err := h.Bundle("c", "", []string{"forever"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer bundle.Close()
			shim, err := h.StartWith(h.ctx, bundle, stdin)
			if err != nil {
				t.Fatal(err)
			}
			defer shim.Close()
			if shim.Version != 2 && shim.Version != 3 {
				t.Errorf("version %d", shim.Version)
			}
			c := &container{host: h, bundle: bundle, shim: shim}
			if err := c.create(noStreams); err != nil {
				t.Fatalf("create: %v", err)
			}
			c.remove()
		})
	}
}

// A version 3 reply; a second container of the group gets the same address and
// version; the socket is the user's alone; both Task services are there.
func TestBootstrapGroup(t *testing.T) {
	h := newHost(t)
	first := h.run("first", "pod", nil, "forever")
	second := h.run("second", "pod", nil, "forever")
	if first.shim.Version != 3 || second.shim.Version != first.shim.Version {
		t.Errorf("versions %d and %d, want 3 twice", first.shim.Version, second.shim.Version)
	}
	if first.shim.Address != second.shim.Address || first.shimPid() != second.shimPid() {
		t.Errorf("the group has two shims: %s and %s", first.shim.Address, second.shim.Address)
	}
	info, err := os.Stat(strings.TrimPrefix(first.shim.Address, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %o, want 0600", info.Mode().Perm())
	}
	second.remove()
	if _, err := first.exec("e", noStreams, "exit", "0"); err != nil {
		t.Errorf("exec in the container that stayed: %v", err)
	}
	first.remove()
}

// The socket goes with the shim: after a container of its own, after a group,
// and by "delete" after the shim was killed.
func TestSocketRemoved(t *testing.T) {
	t.Run("own", func(t *testing.T) {
		h := newHost(t)
		h.sockets = true
		h.run("c", "", nil, "forever").remove()
	})
	t.Run("group", func(t *testing.T) {
		h := newHost(t)
		h.sockets = true
		h.run("c", "pod", nil, "forever").remove()
	})
	t.Run("killed", func(t *testing.T) {
		h := newHost(t)
		h.sockets = true
		c := h.run("c", "", nil, "forever")
		killShim(c)
		deleteAll(h, []*container{c})
	})
}

// The v2 service, which containerd up to 1.7 calls, answers on the same socket.
func TestTaskV2(t *testing.T) {
	h := newHost(t)
	c := h.run("c", "", nil, "forever")
	checkV2(c)
	c.remove()
}

func TestInfo(t *testing.T) {
	h := newHost(t)
	out, err := h.Info("-info")
	if err != nil {
		t.Fatal(err)
	}
	info := &types.RuntimeInfo{}
	if err := proto.Unmarshal(out, info); err != nil {
		t.Fatal(err)
	}
	if info.Name == "" || info.Version.GetVersion() == "" {
		t.Errorf("info: name %q, version %v", info.Name, info.Version)
	}
	value, err := typeurl.UnmarshalAny(info.Features)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := value.(*features.Features)
	if !ok {
		t.Fatalf("features are a %T", value)
	}
	if !strings.Contains(strings.Join(f.MountOptions, ","), "rro") {
		t.Errorf("mount options %v, want rro among them", f.MountOptions)
	}
}

func TestVersion(t *testing.T) {
	h := newHost(t)
	out, err := h.Info("-v")
	if err != nil || !bytes.Contains(out, []byte("containerd-shim-")) {
		t.Errorf("-v: %q, error %v", out, err)
	}
}

func checkV2(c *container) {
	c.t.Helper()
	resp, err := c.shim.TaskV2.State(c.ctx, &taskv2.StateRequest{ID: c.bundle.ID})
	if err != nil || resp.Pid != c.pid {
		c.t.Errorf("v2 state: %v, error %v; want pid %d", resp, err, c.pid)
	}
}
