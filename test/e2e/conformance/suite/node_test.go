// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"os"
	"path/filepath"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
)

// newNode is a host whose shims serve all pods, where the shim can.
func newNode(t *testing.T) *host {
	t.Helper()
	if *shimFlag != "" && filepath.Base(*shimFlag) != "containerd-shim-pod-v2" {
		t.Skip("a shim of its own for each pod is all that this one has")
	}
	h := newHost(t)
	h.sockets = true
	config := filepath.Join(h.Dir, "shim.toml")
	if err := os.WriteFile(config, []byte("group = \"node\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Env = append(h.Env, "BERTH_SHIM_CONFIG="+config)
	return h
}

// announced is a container for which `start` has run and no more.
func (h *host) announced(id string) *container {
	h.t.Helper()
	bundle, err := h.Bundle(id, "", []string{"forever"}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { bundle.Close() })
	shim, err := h.Start(h.ctx, bundle)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { shim.Close() })
	return &container{host: h, bundle: bundle, shim: shim}
}

// A shim of a node that is told to end, after the last of its containers, stays
// for those that `start` has announced: the one that it was begun for, and one
// that joined. It ends with the last.
func TestNodeShimAwaitsTheAnnounced(t *testing.T) {
	h := newNode(t)
	first, second := h.announced("first"), h.announced("second")
	if first.shim.Address != second.shim.Address {
		t.Fatalf("two pods have the shims %s and %s", first.shim.Address, second.shim.Address)
	}
	second.up()
	second.remove()
	first.up()
	third := h.announced("third")
	first.remove()
	third.up()
	if third.shimPid() == 0 {
		t.Error("no shim answers")
	}
	third.remove()
}

// A container that was announced and is given up does not keep the shim.
func TestNodeShimForgetsWhatIsGivenUp(t *testing.T) {
	h := newNode(t)
	c := h.announced("c")
	if _, err := c.shim.Task.Shutdown(h.ctx, &task.ShutdownRequest{ID: "c"}); err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// To end now is no reason to end for a shim that has other pods' containers.
func TestNodeShimStaysForOthers(t *testing.T) {
	h := newNode(t)
	a, b := h.announced("a"), h.announced("b")
	a.up()
	b.up()
	if _, err := a.shim.Task.Shutdown(h.ctx, &task.ShutdownRequest{ID: "a", Now: true}); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	a.remove()
	if _, err := b.exec("e", noStreams, "exit", "0"); err != nil {
		t.Errorf("exec: %v", err)
	}
	b.remove()
}

// `delete` of one container cleans up after it, and leaves the shim and its others
// alone.
func TestNodeDeleteBesideOthers(t *testing.T) {
	h := newNode(t)
	a, b := h.announced("a"), h.announced("b")
	a.up()
	b.up()
	if _, err := h.Delete(a.bundle); err != nil { // as when containerd gives it up
		t.Errorf("delete: %v", err)
	}
	if _, err := b.exec("e", noStreams, "exit", "0"); err != nil {
		t.Errorf("exec: %v", err)
	}
	b.remove()
}

// The death of a shim of a node ends all its containers, each with a reply of its
// own, and leaves nothing; the next container has a new one.
func TestNodeShimDies(t *testing.T) {
	h := newNode(t)
	var all []*container
	for _, id := range ids("c", 8) {
		c := h.announced(id)
		c.up()
		all = append(all, c)
	}
	killShim(all[0])
	next := h.announced("next")
	next.up()
	deleteAll(h, all)
	if _, err := next.exec("e", noStreams, "exit", "0"); err != nil {
		t.Errorf("exec under the next shim: %v", err)
	}
	next.remove()
}
