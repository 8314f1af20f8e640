// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"berth/test/e2e/image"
)

// Pod is a CRI pod of the node, made by crictl.
type Pod struct {
	node    *Node
	name    string
	logs    string // directory of the containers' logs
	Handler string
	ID      string
	Config  string // file with the PodSandboxConfig
	// users are the user_ns options of the pod and of its containers; nil is the
	// host's user namespace.
	users map[string]any
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
	return n.writePod(name, handler, nil, nil)
}

func (n *Node) writePod(name, handler string, annotations map[string]string, users map[string]any) (*Pod, error) {
	logs := filepath.Join(n.dir, "pods", name)
	config := map[string]any{
		"metadata":      metadata{Name: name, Namespace: "default", UID: n.id + "-" + name},
		"labels":        labels(name),
		"annotations":   annotations,
		"log_directory": logs,
		"linux":         map[string]any{"cgroup_parent": "/" + n.id, "security_context": securityContext(users)},
	}
	p := &Pod{node: n, name: name, logs: logs, users: users, Handler: handler, Config: filepath.Join(n.dir, "pods", name+".json")}
	return p, writeJSON(p.Config, config)
}

func securityContext(users map[string]any) map[string]any {
	if users == nil {
		return nil
	}
	return map[string]any{"namespace_options": map[string]any{"userns_options": users}}
}

// RunPod runs a pod with no container but its sandbox.
func (n *Node) RunPod(ctx context.Context, name, handler string) (*Pod, error) {
	return n.RunAnnotatedPod(ctx, name, handler, nil)
}

// RunAnnotatedPod is RunPod with annotations on the pod.
func (n *Node) RunAnnotatedPod(ctx context.Context, name, handler string, annotations map[string]string) (*Pod, error) {
	p, err := n.writePod(name, handler, annotations, nil)
	if err != nil {
		return nil, err
	}
	return p, p.run(ctx)
}

// RunUserPod is RunAnnotatedPod with a user namespace, as `hostUsers: false`
// asks for: root is the host's user first, and so on for n users.
func (n *Node) RunUserPod(ctx context.Context, name, handler string, annotations map[string]string, first, count int) (*Pod, error) {
	ids := []map[string]int{{"container_id": 0, "host_id": first, "length": count}}
	p, err := n.writePod(name, handler, annotations, map[string]any{"mode": 0, "uids": ids, "gids": ids}) // 0 is POD
	if err != nil {
		return nil, err
	}
	return p, p.run(ctx)
}

func (p *Pod) run(ctx context.Context) error {
	id, err := p.node.Crictl(ctx, "runp", "--runtime", p.Handler, p.Config)
	p.ID = strings.TrimSpace(id)
	return err
}

// WriteContainer writes the configuration of a container of the pod that runs a
// command in the demo image, and returns the file. Its log is name.log.
func (p *Pod) WriteContainer(name string, command ...string) (string, error) {
	return p.writeContainer(name, nil, map[string]any{}, nil, command)
}

func (p *Pod) writeContainer(name string, env map[string]string, resources map[string]any, devices []string, command []string) (string, error) {
	var named []map[string]string
	for _, d := range devices {
		named = append(named, map[string]string{"name": d})
	}
	var envs []map[string]string
	for key, value := range env {
		envs = append(envs, map[string]string{"key": key, "value": value})
	}
	config := map[string]any{
		"metadata": metadata{Name: name},
		"labels":   labels(p.name),
		"image":    map[string]string{"image": image.Demo},
		"command":  command,
		"envs":     envs,
		// The CRI's own name for it (api.proto).
		"CDI_devices": named,
		"log_path":    name + ".log",
		"linux":       map[string]any{"resources": resources, "security_context": securityContext(p.users)},
	}
	file := filepath.Join(p.node.dir, "pods", p.name+"-"+name+".json")
	return file, writeJSON(file, config)
}

// Run creates and starts a container of the pod and returns its id.
func (p *Pod) Run(ctx context.Context, name string, command ...string) (string, error) {
	config, err := p.WriteContainer(name, command...)
	if err != nil {
		return "", err
	}
	return p.runConfig(ctx, config)
}

// RunLimited is Run with a memory limit in bytes.
func (p *Pod) RunLimited(ctx context.Context, name string, memory int64, command ...string) (string, error) {
	config, err := p.writeContainer(name, nil, map[string]any{"memory_limit_in_bytes": memory}, nil, command)
	if err != nil {
		return "", err
	}
	return p.runConfig(ctx, config)
}

// RunEnv is Run with environment variables.
func (p *Pod) RunEnv(ctx context.Context, name string, env map[string]string, command ...string) (string, error) {
	config, err := p.writeContainer(name, env, map[string]any{}, nil, command)
	if err != nil {
		return "", err
	}
	return p.runConfig(ctx, config)
}

// RunCDI is Run with devices by their CDI names. Specs of devices are in the
// directory that CDIDir names.
func (p *Pod) RunCDI(ctx context.Context, name string, devices []string, command ...string) (string, error) {
	config, err := p.writeContainer(name, nil, map[string]any{}, devices, command)
	if err != nil {
		return "", err
	}
	return p.runConfig(ctx, config)
}

// CDIDir is where the node's CRI looks for CDI specs.
func (n *Node) CDIDir() string { return filepath.Join(n.dir, "cdi") }

func (p *Pod) runConfig(ctx context.Context, config string) (string, error) {
	out, err := p.node.Crictl(ctx, "create", p.ID, config, p.Config)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(out)
	_, err = p.node.Crictl(ctx, "start", id)
	return id, err
}

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
