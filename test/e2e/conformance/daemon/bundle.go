// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// groupAnnotation puts containers under one shim; both shims read it.
const groupAnnotation = "io.containerd.runc.v2.group"

// Bundle is a container's directory as containerd would make it: config.json,
// an empty rootfs directory and the log FIFO, which a goroutine drains until
// Close.
type Bundle struct {
	ID, Dir string

	fifo    *os.File
	drained chan struct{}
	mu      sync.Mutex // guards log
	log     []byte
}

// Bundle makes a bundle for payload's verb, in the group given ("" for one of
// its own); edit, which may be nil, has the last word on the spec.
func (d *Daemon) Bundle(id, group string, verb []string, edit func(*specs.Spec)) (*Bundle, error) {
	spec := d.spec(id, group, verb)
	if edit != nil {
		edit(spec)
	}
	config, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	b := &Bundle{ID: id, Dir: filepath.Join(d.Dir, "b", id), drained: make(chan struct{})}
	if err := os.MkdirAll(filepath.Join(b.Dir, "rootfs"), 0o711); err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "config.json"), config, 0o600); err != nil {
		return nil, fmt.Errorf("write spec: %w", err)
	}
	log := filepath.Join(b.Dir, "log")
	if err := syscall.Mkfifo(log, 0o700); err != nil {
		return nil, fmt.Errorf("make log fifo: %w", err)
	}
	// O_RDWR as containerd does: there is a writer even while no shim runs.
	if b.fifo, err = os.OpenFile(log, os.O_RDWR|syscall.O_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("open log fifo: %w", err)
	}
	go b.drain()
	return b, nil
}

func (b *Bundle) drain() {
	defer close(b.drained)
	buf := make([]byte, 16<<10)
	for {
		n, err := b.fifo.Read(buf)
		b.mu.Lock()
		b.log = append(b.log, buf[:n]...)
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Log is what the shim wrote to its log FIFO so far.
func (b *Bundle) Log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.log)
}

// Close stops the drain and waits for it; the directory is the Daemon's.
func (b *Bundle) Close() error {
	err := b.fifo.Close()
	<-b.drained
	if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Rootfs is the mount that the shim is asked to make: the shared root
// directory, bound over the bundle's.
func (d *Daemon) Rootfs() []*types.Mount {
	return []*types.Mount{{Type: "bind", Source: filepath.Join(d.Dir, "rootfs"), Options: []string{"rbind", "ro"}}}
}

// spec is a small OCI configuration: own PID, IPC, UTS and mount namespaces,
// the host's network, and /share from the daemon's directory.
func (d *Daemon) spec(id, group string, verb []string) *specs.Spec {
	spec := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: "rootfs", Readonly: true},
		Process:     Process(verb...),
		Annotations: map[string]string{},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/share", Type: "bind", Source: filepath.Join(d.Dir, "share"), Options: []string{"rbind", "rw"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + d.Name + "/" + id,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
		},
	}
	if group != "" {
		spec.Annotations[groupAnnotation] = group
	}
	if d.Guest != "" {
		IntoGuest(spec, group)
	}
	return spec
}

// Process is the OCI process that runs a verb of payload.
func Process(verb ...string) *specs.Process {
	return &specs.Process{
		Args: append([]string{"/bin/payload"}, verb...),
		Cwd:  "/",
		Env:  []string{"PATH=/bin"},
	}
}
