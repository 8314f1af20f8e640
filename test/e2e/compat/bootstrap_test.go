// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bundles are the directories of tasks, by pattern, in all namespaces.
func (h *host) bundles(pattern string) []string {
	found, _ := filepath.Glob(filepath.Join(h.dir, "state", "io.containerd.runtime.v2.task", "*", pattern))
	return found
}

// bootstrap is what containerd keeps of a shim's answer: the protocol's version and the
// address. containerd 1.7 keeps nothing, and reads the address that the shim left.
func bootstrap(t *testing.T, bundle string) (version int, address string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(bundle, "bootstrap.json"))
	if errors.Is(err, os.ErrNotExist) {
		data, err = os.ReadFile(filepath.Join(bundle, "address"))
		if err != nil {
			return 0, ""
		}
		return 2, string(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b struct {
		Version int    `json:"version"`
		Address string `json:"address"`
	}
	if err := json.Unmarshal(data, &b); err != nil {
		t.Fatalf("bootstrap.json: %v: %s", err, data)
	}
	return b.Version, b.Address
}

// noteSockets remembers the sockets of the shims that there are, which lie where those
// of any other containerd lie.
func (h *host) noteSockets(t *testing.T) {
	t.Helper()
	for _, b := range h.bundles("*") {
		if _, address := bootstrap(t, b); address != "" {
			h.sockets[strings.TrimPrefix(address, "unix://")] = true
		}
	}
}
