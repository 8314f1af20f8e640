// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"maps"
	"path/filepath"
	"strings"

	"berth/test/e2e/image"
)

// ContainerOptions is what a container of a pod may have beside a command, by the
// CRI's names (api.proto). The zero value is the usual.
type ContainerOptions struct {
	Env        map[string]string
	Resources  map[string]any
	CDI        []string // devices by their CDI names, see CDIDir
	Devices    []Device
	Mounts     []Mount
	Privileged bool
	Security   map[string]any // more of the security context
}

// Device is a device of the host's.
type Device struct {
	HostPath      string `json:"host_path"`
	ContainerPath string `json:"container_path"`
	Permissions   string `json:"permissions"`
}

// Mount is a volume.
type Mount struct {
	HostPath      string `json:"host_path"`
	ContainerPath string `json:"container_path"`
	ReadOnly      bool   `json:"readonly"`

	UIDMappings []IDMapping `json:"uidMappings,omitempty"`
	GIDMappings []IDMapping `json:"gidMappings,omitempty"`
}

// IDMapping has a range of ids of a volume be others on the host, as the user
// namespace of a pod has them.
type IDMapping struct {
	ContainerID int `json:"container_id"`
	HostID      int `json:"host_id"`
	Length      int `json:"length"`
}

// WriteContainer writes the configuration of a container of the pod that runs a
// command in the demo image, and returns the file. Its log is name.log.
func (p *Pod) WriteContainer(name string, command ...string) (string, error) {
	return p.writeContainer(name, ContainerOptions{}, command)
}

func (p *Pod) writeContainer(name string, o ContainerOptions, command []string) (string, error) {
	var named []map[string]string
	for _, d := range o.CDI {
		named = append(named, map[string]string{"name": d})
	}
	var envs []map[string]string
	for key, value := range o.Env {
		envs = append(envs, map[string]string{"key": key, "value": value})
	}
	if o.Resources == nil {
		o.Resources = map[string]any{}
	}
	security := p.options.securityContext(o.Privileged)
	maps.Copy(security, o.Security)
	config := map[string]any{
		"metadata":    metadata{Name: name},
		"labels":      labels(p.name),
		"image":       map[string]string{"image": image.Demo},
		"command":     command,
		"envs":        envs,
		"mounts":      o.Mounts,
		"devices":     o.Devices,
		"CDI_devices": named,
		"log_path":    name + ".log",
		"linux":       map[string]any{"resources": o.Resources, "security_context": security},
	}
	file := filepath.Join(p.node.dir, "pods", p.name+"-"+name+".json")
	return file, writeJSON(file, config)
}

// Run creates and starts a container of the pod and returns its id.
func (p *Pod) Run(ctx context.Context, name string, command ...string) (string, error) {
	return p.RunWith(ctx, name, ContainerOptions{}, command...)
}

// RunLimited is Run with a memory limit in bytes.
func (p *Pod) RunLimited(ctx context.Context, name string, memory int64, command ...string) (string, error) {
	return p.RunWith(ctx, name, ContainerOptions{Resources: map[string]any{"memory_limit_in_bytes": memory}}, command...)
}

// RunEnv is Run with environment variables.
func (p *Pod) RunEnv(ctx context.Context, name string, env map[string]string, command ...string) (string, error) {
	return p.RunWith(ctx, name, ContainerOptions{Env: env}, command...)
}

// RunCDI is Run with devices by their CDI names. Specs of devices are in the
// directory that CDIDir names.
func (p *Pod) RunCDI(ctx context.Context, name string, devices []string, command ...string) (string, error) {
	return p.RunWith(ctx, name, ContainerOptions{CDI: devices}, command...)
}

// RunWith is Run with options.
func (p *Pod) RunWith(ctx context.Context, name string, o ContainerOptions, command ...string) (string, error) {
	config, err := p.writeContainer(name, o, command)
	if err != nil {
		return "", err
	}
	return p.runConfig(ctx, config)
}

func (p *Pod) runConfig(ctx context.Context, config string) (string, error) {
	out, err := p.node.Crictl(ctx, "create", p.ID, config, p.Config)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(out)
	_, err = p.node.Crictl(ctx, "start", id)
	return id, err
}
