// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Pod is a CRI pod of the node, made by crictl.
type Pod struct {
	node    *Node
	name    string
	logs    string // directory of the containers' logs
	Handler string
	ID      string
	Config  string // file with the PodSandboxConfig
	options PodOptions
}

// metadata is the CRI metadata of a pod or container.
type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	UID       string `json:"uid,omitempty"`
	Attempt   int    `json:"attempt"`
}

// labels are those by which crictl names a container's pod.
func labels(pod string) map[string]string {
	return map[string]string{"io.kubernetes.pod.name": pod, "io.kubernetes.pod.namespace": "default"}
}

// WritePod writes the configuration of a pod, which nothing has run yet. Its
// cgroups are the node's, and its log directory lies in the node's.
func (n *Node) WritePod(name, handler string) (*Pod, error) {
	return n.writePod(name, handler, PodOptions{})
}

// PodOptions is what a pod may have beside a name.
type PodOptions struct {
	Annotations map[string]string
	// Resources are those of its containers together, as kubelet tells them.
	Resources map[string]any
	// Users are the options of a user namespace; nil is the host's.
	Users map[string]any
	// Privileged is one that may have privileged containers.
	Privileged bool
	// OwnPIDs has each container have a PID namespace of its own, as kubelet asks for.
	OwnPIDs bool
}

func (n *Node) writePod(name, handler string, o PodOptions) (*Pod, error) {
	logs := filepath.Join(n.dir, "pods", name)
	config := map[string]any{
		"metadata":      metadata{Name: name, Namespace: "default", UID: n.id + "-" + name},
		"labels":        labels(name),
		"annotations":   o.Annotations,
		"log_directory": logs,
		"linux":         map[string]any{"cgroup_parent": n.cgroupParent(), "resources": o.Resources, "security_context": o.securityContext(o.Privileged)},
	}
	p := &Pod{node: n, name: name, logs: logs, options: o, Handler: handler, Config: filepath.Join(n.dir, "pods", name+".json")}
	return p, writeJSON(p.Config, config)
}

// securityContext is that of a pod, or of a container of it.
func (o PodOptions) securityContext(privileged bool) map[string]any {
	namespaces := map[string]any{}
	if o.Users != nil {
		namespaces["userns_options"] = o.Users
	}
	if o.OwnPIDs {
		namespaces["pid"] = 1 // CONTAINER
	}
	return map[string]any{"privileged": privileged, "namespace_options": namespaces}
}

// RunPod runs a pod with no container but its sandbox.
func (n *Node) RunPod(ctx context.Context, name, handler string) (*Pod, error) {
	return n.RunAnnotatedPod(ctx, name, handler, nil)
}

// RunAnnotatedPod is RunPod with annotations on the pod.
func (n *Node) RunAnnotatedPod(ctx context.Context, name, handler string, annotations map[string]string) (*Pod, error) {
	return n.RunPodWith(ctx, name, handler, PodOptions{Annotations: annotations})
}

// RunPodWith is RunPod with options.
func (n *Node) RunPodWith(ctx context.Context, name, handler string, o PodOptions) (*Pod, error) {
	p, err := n.writePod(name, handler, o)
	if err != nil {
		return nil, err
	}
	return p, p.run(ctx)
}

// RunUserPod is RunAnnotatedPod with a user namespace, as `hostUsers: false`
// asks for: root is the host's user first, and so on for n users.
func (n *Node) RunUserPod(ctx context.Context, name, handler string, annotations map[string]string, first, count int) (*Pod, error) {
	ids := []IDMapping{{HostID: first, Length: count}}
	return n.RunPodWith(ctx, name, handler, PodOptions{
		Annotations: annotations, Users: map[string]any{"mode": 0, "uids": ids, "gids": ids}, // 0 is POD
	})
}

func (p *Pod) run(ctx context.Context) error {
	id, err := p.node.Crictl(ctx, "runp", "--runtime", p.Handler, p.Config)
	p.ID = strings.TrimSpace(id)
	return err
}

// CDIDir is where the node's CRI looks for CDI specs.
func (n *Node) CDIDir() string { return filepath.Join(n.dir, "cdi") }

// Log reads the log of a container in CRI's format, one stream and tag a line.
func (p *Pod) Log(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(p.logs, name+".log"))
	if err != nil {
		return "", fmt.Errorf("read container log: %w", err)
	}
	return string(data), nil
}

// Remove stops the pod and removes it with its containers.
func (p *Pod) Remove(ctx context.Context) error {
	if _, err := p.node.Crictl(ctx, "stopp", p.ID); err != nil {
		return err
	}
	_, err := p.node.Crictl(ctx, "rmp", p.ID)
	return err
}

func writeJSON(file string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(file), err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
