// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/mps"
	"berth/gpu/nvml"
)

// Names of the driver's programs for MPS.
const mpsControl, mpsServer = "nvidia-cuda-mps-control", "nvidia-cuda-mps-server"

// shared is what a container's devices are to be shared by.
type shared struct {
	mps.Request
	devices []Selected
	// exclusive are those of the GPUs that one process alone may have, which is
	// the daemon's server.
	exclusive []string // PCI addresses
}

// seater gives a container its place at an MPS daemon.
type seater func(ctx context.Context, s shared) (*mps.Seat, error)

// share plans that a container uses its devices through MPS. Without a seater
// it is a preview.
func (p *Planner) share(ctx context.Context, plan *Plan, spec *specs.Spec, host *survey, seat seater) error {
	s := shared{devices: host.selected, Request: mps.Request{Ask: *plan.Request.MPS, UID: hostUser(spec)}}
	if spec.Linux != nil {
		s.CgroupsPath = spec.Linux.CgroupsPath
	}
	if spec.Process != nil && spec.Process.OOMScoreAdj != nil {
		s.OOMScoreAdj = *spec.Process.OOMScoreAdj
	}
	var err error
	if s.Control, err = host.mpsProgram(); err != nil {
		return err
	}
	if len(s.devices) > 0 {
		if err := p.shareable(ctx, plan.Request, host, &s); err != nil {
			return err
		}
	}
	if seat == nil {
		plan.mps = append(plan.mps, planned[string]{s.Ask.String(), "one MPS daemon for the pod is started with the first container that asks"})
		return nil
	}
	got, err := seat(ctx, s)
	if err != nil {
		return err
	}
	plan.mps = append(plan.mps, planned[string]{s.Ask.String(), fmt.Sprintf("the pod's MPS daemon, process %d, on %s", got.Daemon.PID, strings.Join(s.Devices, ","))})
	return plan.sit(spec, got)
}

// mpsProgram is the control daemon as it is called below the driver's root. Its
// server is found by itself, beside it.
func (s *survey) mpsProgram() (string, error) {
	var at string
	for _, name := range []string{mpsControl, mpsServer} {
		i := slices.IndexFunc(s.files.Files, func(f File) bool { return f.Kind == Binary && path.Base(f.Path) == name })
		if i < 0 {
			return "", fmt.Errorf("MPS is asked for, and the driver below %s has no %s: install the package that has it (nvidia-compute-utils, nvidia-driver-cuda): %w",
				s.roots.Driver, name, errdefs.ErrFailedPrecondition)
		}
		if name == mpsControl {
			at = s.files.Files[i].Host
		}
	}
	root, err := openRoot(s.roots.Driver)
	if err != nil {
		return "", err
	}
	defer root.close()
	return root.inside(at), nil
}

// shareable says why MPS cannot serve the devices, and names them.
func (p *Planner) shareable(ctx context.Context, req *Request, host *survey, s *shared) error {
	list, err := p.list(ctx)
	if err != nil {
		return fmt.Errorf("MPS depends on the compute mode of the GPU: %w", err)
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("MPS: "+format+": %w", append(args, errdefs.ErrFailedPrecondition)...)
	}
	for _, d := range host.selected {
		if d.Instance != nil && len(host.selected) > 1 {
			return refuse("the container has %d devices, and a program that uses a MIG device uses that one alone: ask for one", len(host.selected))
		}
		i := slices.IndexFunc(list.Devices, func(n nvml.Device) bool { return n.BusID == d.Device.BusID })
		if i < 0 || list.Devices[i].UUID == "" {
			return refuse("NVML does not know the GPU at %s", d.Device.BusID)
		}
		known := list.Devices[i]
		switch {
		case known.ComputeMode == nvml.ComputeProhibited:
			return refuse("the compute mode of GPU %s is PROHIBITED; an administrator may set another: nvidia-smi -i %s -c DEFAULT", known.UUID, known.BusID)
		case known.ComputeMode == nvml.ComputeExclusive:
			s.exclusive = append(s.exclusive, known.BusID)
		}
		if old(known.ComputeCapability) && s.Ask != (mps.Ask{}) {
			return refuse("GPU %s has compute capability %s, and limits need 7.0 (Volta): ask for it without limits (%q)", known.UUID, known.ComputeCapability, mps.Ask{})
		}
		uuid := known.UUID
		if d.Instance != nil {
			uuid = d.Instance.UUID
		} else if m := known.Memory >> 20; m > 0 && uint64(s.Ask.Memory) > m {
			return refuse("%d MiB are asked for, and GPU %s has %d", s.Ask.Memory, known.UUID, m)
		}
		if uuid == "" {
			return refuse("the MIG device of %s has no UUID that is known", known.UUID)
		}
		s.Devices = append(s.Devices, uuid)
	}
	return nil
}

// old is true before Volta; a capability that is not known is none.
func old(capability string) bool {
	major, _, _ := strings.Cut(capability, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 7
}

// hostUser is the host's user as which a container's first process runs.
func hostUser(spec *specs.Spec) int {
	if spec.Process == nil {
		return 0
	}
	uid := spec.Process.User.UID
	if spec.Linux != nil {
		for _, m := range spec.Linux.UIDMappings {
			if uid >= m.ContainerID && uid-m.ContainerID < m.Size {
				return int(m.HostID + (uid - m.ContainerID))
			}
		}
	}
	return int(uid)
}

// Where a container has the daemon's directory: where CUDA looks without being
// told, or else where no volume is in the way.
var mpsPipes = [...]string{"/tmp/nvidia-mps", "/run/nvidia-mps"}

// sit plans the mounts of a client. The directory of the sockets cannot be
// changed by the container, whose names in it root's server follows; files that
// clients lock are put over it one by one. The socket for privileged commands is
// covered: root in a container could raise the limits by it. What the container
// would have had as /dev/shm is left out.
func (p *Plan) sit(spec *specs.Spec, seat *mps.Seat) error {
	i := slices.IndexFunc(mpsPipes[:], func(at string) bool { return !inVolume(spec, at) })
	if i < 0 {
		return fmt.Errorf("MPS: volumes cover %s: leave one of them free for the daemon's sockets: %w", strings.Join(mpsPipes[:], " and "), errdefs.ErrInvalidArgument)
	}
	pipe := mpsPipes[i]
	const reason = "MPS"
	add := func(source, dest string, options ...string) {
		p.mounts = append(p.mounts, planned[specs.Mount]{specs.Mount{Source: source, Destination: dest, Type: "bind", Options: append(options, socketOptions...)}, reason})
	}
	for i, m := range spec.Mounts {
		if path.Clean(m.Destination) == "/dev/shm" {
			p.drop = append(p.drop, planned[int]{i, "clients of MPS share memory with its server"})
		}
	}
	slices.SortFunc(p.drop, func(a, b planned[int]) int { return a.what - b.what })
	add(seat.Shm, "/dev/shm")
	add(seat.Pipe, pipe, "ro")
	for _, name := range seat.Writable {
		add(path.Join(seat.Pipe, name), path.Join(pipe, name))
	}
	for _, name := range seat.Hidden {
		add("/dev/null", path.Join(pipe, name), "ro")
	}
	p.env = append(p.env, planned[string]{"CUDA_MPS_PIPE_DIRECTORY=" + pipe, reason})
	return nil
}
