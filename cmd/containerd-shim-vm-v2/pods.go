// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/hooks"
	"berth/sandbox"
	"berth/sandbox/agentapi"
	"berth/sandbox/remote"
	"berth/shim"
)

// pods makes the runtimes of this process's containers. A shim has one pod.
type pods struct {
	load func() (configs.VM, error)

	mu  sync.Mutex
	pod map[string]*remote.Runtime // by directory
}

// runtime is that of the pod that a container is in.
func (p *pods) runtime(c shim.RuntimeConfig) (sandbox.Runtime, error) {
	if err := refuse(c.Options); err != nil {
		return nil, err
	}
	conf, err := p.load()
	if err != nil {
		return nil, err
	}
	id, err := podOf(c.Bundle)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(conf.RunDir, c.Namespace, id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if rt := p.pod[dir]; rt != nil {
		return rt, nil
	}
	b := booter{conf: conf, sup: c.Supervisor, id: id, state: state(dir + ".json"), hostMounts: c.HostMounts}
	rt := remote.New(remote.Config{
		Host: sandbox.ThisKernel(c.Supervisor), Share: dir, GuestShare: agentapi.ShareDir, GuestDisks: agentapi.DiskDir,
		Boot: b.boot, Reclaim: b.state.reclaim, PauseMachine: conf.Pause == configs.PauseMachine,
	})
	if p.pod == nil {
		p.pod = make(map[string]*remote.Runtime)
	}
	p.pod[dir] = rt
	return rt, nil
}

// refuse says which option of a runtime on the host has no meaning in a guest.
// SystemdCgroup has none either, and is let pass: clusters set it for all.
func refuse(o configs.Runtime) error {
	for _, f := range []struct{ name, value string }{
		{"BinaryName", o.BinaryName}, {"Root", o.Root}, {"CriuImagePath", o.CriuImagePath}, {"CriuWorkPath", o.CriuWorkPath},
	} {
		if f.value != "" {
			return fmt.Errorf("option %s is %q: the runtime of a VM is the guest's own; remove the option: %w",
				f.name, f.value, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// maxConfig bounds what is read of a config.json, in bytes.
const maxConfig = 16 << 20

// podOf is the id of the pod that the container in a bundle belongs to: that
// of its first container, or its own.
func podOf(bundle string) (string, error) {
	id := filepath.Base(bundle)
	f, err := os.OpenFile(filepath.Join(bundle, "config.json"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		defer func() { _ = f.Close() }()
		var spec struct {
			Annotations map[string]string `json:"annotations"`
		}
		if err := json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(&spec); err != nil {
			return "", fmt.Errorf("find the container's pod: read config.json: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		if sandbox := spec.Annotations[remote.SandboxAnnotation]; sandbox != "" {
			id = sandbox
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("find the container's pod: %w", err)
	}
	return id, hooks.ValidID(id)
}
