// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/log"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/process"
	"berth/sandbox/remote"
	"berth/sandbox/vm"
	"berth/sandbox/vm/image"
	"berth/sandbox/vm/network"
	"berth/sandbox/vm/vfio"
)

// booter makes the machine of one pod.
type booter struct {
	conf  configs.VM
	sup   *process.Supervisor
	id    string // of the pod
	state state
	// hostMounts is shim.ServeConfig's.
	hostMounts *os.File
}

// booting is one machine on its way.
type booting struct {
	booter
	left traces
	late *network.Late // nil unless the network may come later
}

func (b booter) boot(ctx context.Context, r remote.BootRequest) (remote.Machine, error) {
	return (&booting{booter: b}).boot(ctx, r)
}

func (b *booting) boot(ctx context.Context, r remote.BootRequest) (_ remote.Machine, retErr error) {
	conf := b.conf
	img, err := image.Open(conf.Image)
	if err != nil {
		return nil, err
	}
	memory, cpus, err := conf.Size(r.Spec.Annotations, r.Spec.Linux.Resources)
	if err != nil {
		return nil, err
	}
	passed, err := vfio.Find("/sys", r.Spec.Linux.Devices)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the launcher: %w", err)
	}
	accel, err := accelerator(ctx, conf)
	if err != nil {
		return nil, err
	}
	namespace, pod, err := b.openNetwork(ctx, r.Spec)
	if err != nil {
		return nil, err
	}
	defer func() {
		pod.Close()
		_ = namespace.Close()
		if retErr != nil {
			retErr = errors.Join(retErr, b.undo(ctx))
		}
	}()
	defer func() {
		if b.late != nil && retErr != nil {
			retErr = errors.Join(retErr, b.late.Close())
		}
	}()
	var nics []vm.NIC
	for _, n := range pod.NICs {
		nics = append(nics, vm.NIC{Tap: n.Tap, MAC: n.MAC})
	}
	own := conf.UIDBase + os.Getpid()
	c := configured(conf)
	c.ID, c.Supervisor, c.Image, c.Accel, c.MemoryMiB, c.CPUs = b.id, b.sup, img, []vm.Accel{accel}, conf.Class(memory), cpus
	c.Share, c.NICs, c.LaterNICs, c.VFIO, c.Network = r.Share, nics, b.late != nil, passed, namespace
	c.Launcher, c.UID, c.GID, c.Cgroup = []string{self, launchArg}, own, own, cgroupsPath(r.Spec, b.id)
	m, err := b.machine(ctx, r.Spec.Hostname, c)
	if err != nil {
		return nil, err
	}
	if loc, ok := m.Cgroup(); ok {
		b.left.Cgroup = &loc
		if err := b.state.write(b.left); err != nil {
			return nil, errors.Join(err, m.Close(context.WithoutCancel(ctx)))
		}
	}
	return machine{loopback: b.openLoopback(ctx, namespace), Machine: m, state: b.state, left: b.left, network: pod.Request, late: b.late, taken: new(taken)}, nil
}

// configured is what a configuration says of each machine.
func configured(conf configs.VM) vm.Config {
	return vm.Config{QEMU: conf.QEMU, Virtiofsd: conf.Virtiofsd, ShareCached: conf.ShareCache == configs.CacheAlways}
}

// accelerator is what runs the guests of a configuration here.
func accelerator(ctx context.Context, conf configs.VM) (vm.Accel, error) {
	var may []vm.Accel
	for _, a := range conf.Accel {
		may = append(may, vm.Accel(a))
	}
	return vm.Choose(ctx, may, filepath.Join(conf.RunDir, ".kvm-is-slow"))
}

// undo removes what a machine has left that did not come to be. What cannot be
// removed stays noted.
func (b *booting) undo(ctx context.Context) error {
	if err := b.left.remove(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return b.state.remove()
}

// openNetwork opens the pod's network. A pod whose network namespace is yet to
// be made gets one here, with nothing in it.
func (b *booting) openNetwork(ctx context.Context, spec *specs.Spec) (namespace *os.File, _ *network.Network, err error) {
	path := ""
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			path = ns.Path
		}
	}
	if path == "" {
		if namespace, err = network.NewNamespace(); err == nil {
			b.late, err = network.NewLate(namespace)
		}
	} else {
		namespace, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		if namespace != nil {
			_ = namespace.Close()
		}
		return nil, nil, fmt.Errorf("open the pod's network namespace: %w", err)
	}
	net, err := network.Open(path, namespace, func(r network.Record) error {
		b.left.Network = &r
		return b.state.write(b.left)
	})
	if err != nil {
		if b.late != nil {
			_ = b.late.Close()
		}
		return nil, nil, errors.Join(err, b.undo(ctx), namespace.Close())
	}
	return namespace, net, nil
}

// cgroupsPath is where the machine goes: the place that the pod's first
// container has on the host and, its own being in the guest, does not use.
func cgroupsPath(spec *specs.Spec, id string) string {
	if path := spec.Linux.CgroupsPath; path != "" {
		return path
	}
	return "/berth/" + id
}

// openLoopback has connections to the pod's loopback interface on the host taken. A
// host that cannot has no port-forward, and pods all the same.
func (b *booting) openLoopback(ctx context.Context, namespace *os.File) (all []net.Listener) {
	found, err := network.OpenLoopback(namespace)
	if err != nil {
		log.G(ctx).WithError(err).Info("ports of the pod cannot be forwarded")
	}
	for _, l := range found {
		all = append(all, l)
	}
	return all
}
