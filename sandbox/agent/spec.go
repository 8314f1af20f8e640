// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"berth/sandbox/agentapi"
)

// nsLinks are the files in /proc/PID/ns of the namespaces that one container
// may share with another, by their OCI names (namespaces(7)).
var nsLinks = map[string]string{"ipc": "ipc", "uts": "uts", "pid": "pid", "user": "user"}

// finishSpec puts into the spec what only the guest knows: the namespaces of
// other containers, and where copies of volumes are. It sets the sysctls that no runtime would, because they
// are of the network namespace that the containers of a pod have in common.
func (s *server) finishSpec(r *agentapi.CreateRequest, sources map[string]string) ([]byte, error) {
	for name, value := range r.Sysctls {
		if err := setSysctl(name, value); err != nil {
			return nil, err
		}
	}
	spec, err := replaceSources(r.Spec, sources)
	if err != nil || len(r.Join) == 0 {
		return spec, err
	}
	paths := make(map[string]string)
	for kind, id := range r.Join {
		link, ok := nsLinks[kind]
		if !ok {
			return nil, fmt.Errorf("the %.32q namespace of container %q cannot be shared: %w", kind, id, errdefs.ErrInvalidArgument)
		}
		c, err := s.container(id)
		if err != nil {
			return nil, fmt.Errorf("share the %s namespace: %w", kind, err)
		}
		paths[kind] = fmt.Sprintf("/proc/%d/ns/%s", c.init.os.Pid(), link)
	}
	return joinNamespaces(spec, paths)
}

// replaceSources has mounts come from elsewhere. All else keeps its bytes.
func replaceSources(spec []byte, sources map[string]string) ([]byte, error) {
	if len(sources) == 0 {
		return spec, nil
	}
	var top map[string]json.RawMessage
	var mounts []map[string]json.RawMessage
	if err := json.Unmarshal(spec, &top); err != nil {
		return nil, notASpec(err)
	}
	if err := json.Unmarshal(top["mounts"], &mounts); err != nil {
		return nil, notASpec(err)
	}
	for _, m := range mounts {
		var source string
		if err := json.Unmarshal(m["source"], &source); err != nil {
			continue // it has none
		}
		to, ok := sources[source]
		if !ok {
			continue
		}
		var err error
		if m["source"], err = json.Marshal(to); err != nil {
			return nil, err
		}
	}
	var err error
	if top["mounts"], err = json.Marshal(mounts); err != nil {
		return nil, err
	}
	return json.Marshal(top)
}

// joinNamespaces sets the paths of namespaces. All else keeps its bytes.
func joinNamespaces(spec []byte, paths map[string]string) ([]byte, error) {
	var top, linux map[string]json.RawMessage
	var namespaces []namespace
	if err := json.Unmarshal(spec, &top); err != nil {
		return nil, notASpec(err)
	}
	if err := json.Unmarshal(top["linux"], &linux); err != nil {
		return nil, notASpec(err)
	}
	if err := json.Unmarshal(linux["namespaces"], &namespaces); err != nil {
		return nil, notASpec(err)
	}
	for i, ns := range namespaces {
		if path, ok := paths[ns.Type]; ok {
			namespaces[i].Path = path
		}
	}
	var err error
	if linux["namespaces"], err = json.Marshal(namespaces); err != nil {
		return nil, err
	}
	if top["linux"], err = json.Marshal(linux); err != nil {
		return nil, err
	}
	return json.Marshal(top)
}

// namespace is an entry of linux.namespaces.
type namespace struct {
	Type string `json:"type"`
	Path string `json:"path,omitempty"`
}

func notASpec(err error) error {
	return fmt.Errorf("the spec is no OCI spec: %w: %w", err, errdefs.ErrInvalidArgument)
}

// setSysctl sets one of the network namespace's.
func setSysctl(name, value string) error {
	path := strings.ReplaceAll(name, ".", "/")
	if !strings.HasPrefix(path, "net/") || path != filepath.Clean(path) {
		return fmt.Errorf("sysctl %.64q is not one of a network namespace: %w", name, errdefs.ErrInvalidArgument)
	}
	if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s: %w", name, err)
	}
	return nil
}
