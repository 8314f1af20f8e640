// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/pelletier/go-toml/v2"
)

// VMPath is where the vm shim looks for its configuration: /etc/berth/vm.toml,
// or the file that BERTH_VM_CONFIG names in the environment, which containerd
// hands on to its shims.
func VMPath(getenv func(string) string) string {
	if path := getenv("BERTH_VM_CONFIG"); path != "" {
		return path
	}
	return "/etc/berth/vm.toml"
}

// VM is what the machines of one host are made of. No pod has a say in any of
// it but the size, within the bounds.
type VM struct {
	// Accel is what may run guests, the best first: "kvm", "tcg".
	Accel []string `toml:"accel"`
	// Image is the directory of the guest image.
	Image string `toml:"image"`
	// QEMU and Virtiofsd are the programs.
	QEMU      string `toml:"qemu"`
	Virtiofsd string `toml:"virtiofsd"`
	// ShareCache is how long a guest believes what it knows of shared files.
	ShareCache CacheMode `toml:"share_cache"`
	// RunDir holds what pods share with their guests, while they live.
	RunDir string `toml:"run_dir"`
	// UIDBase is the first of the user ids, and group ids, that machines run
	// as: that of a machine is higher by the pid of its shim.
	UIDBase int `toml:"uid_base"`
	// Template is how machines come to be.
	Template TemplateMode `toml:"template"`
	// Pause is what stops when a pod's last container that runs is paused.
	Pause PauseMode `toml:"pause"`
	// TemplateIdle is how long templates are kept that nobody asks for, in
	// seconds.
	TemplateIdle int `toml:"template_idle"`
	// MemoryMiB and CPUs are the size of a machine whose pod does not say;
	// MaxMemoryMiB and MaxCPUs bound what it may say.
	MemoryMiB    int `toml:"memory_mib"`
	CPUs         int `toml:"cpus"`
	MaxMemoryMiB int `toml:"max_memory_mib"`
	MaxCPUs      int `toml:"max_cpus"`
}

const (
	// minGuestMiB is what a guest boots with and has room for a container.
	minGuestMiB = 96
	// pidMax is the highest limit of pids that a kernel takes (proc(5),
	// /proc/sys/kernel/pid_max).
	pidMax = 1 << 22
)

// DefaultVM is the configuration of a host without a file.
func DefaultVM() VM {
	return VM{
		Accel: []string{"kvm"}, Image: "/var/lib/berth/guest",
		QEMU: "/usr/bin/qemu-system-x86_64", Virtiofsd: "/usr/lib/qemu/virtiofsd",
		RunDir: "/run/berth/vm", UIDBase: 2_000_000_000, ShareCache: CacheAuto, Template: NoTemplate, Pause: PauseContainer, TemplateIdle: 900,
		MemoryMiB: 512, CPUs: 1, MaxMemoryMiB: 64 << 10, MaxCPUs: 32,
	}
}

// LoadVM reads a file of the vm shim's configuration. What it does not mention
// has its default, and a file that is not there is all defaults. An error names
// the file and the line, and is errdefs.ErrInvalidArgument.
func LoadVM(path string) (VM, error) {
	c := DefaultVM()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return VM{}, fmt.Errorf("open the configuration of the vm shim: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(&c); err != nil {
		return VM{}, fmt.Errorf("%s: %w: %w", path, describe(err), errdefs.ErrInvalidArgument)
	}
	if err := c.validate(); err != nil {
		return VM{}, fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func (c VM) validate() error {
	if len(c.Accel) == 0 {
		return errors.New(`accel is empty: name "kvm", "tcg", or both`)
	}
	for _, a := range c.Accel {
		if a != "kvm" && a != "tcg" {
			return fmt.Errorf("accel has %.64q; known are kvm and tcg", a)
		}
	}
	for _, p := range []struct{ name, path string }{
		{"image", c.Image}, {"qemu", c.QEMU}, {"virtiofsd", c.Virtiofsd}, {"run_dir", c.RunDir},
	} {
		if !filepath.IsAbs(p.path) {
			return fmt.Errorf("%s is %q: it must be an absolute path", p.name, p.path)
		}
	}
	switch c.Template {
	case NoTemplate, CopiedTemplate, SharedTemplate:
	default:
		return fmt.Errorf("template is %.64q: it must be off, copy or cow", c.Template)
	}
	switch {
	case c.ShareCache != CacheAuto && c.ShareCache != CacheAlways:
		return fmt.Errorf("share_cache is %.64q: it must be auto or always", c.ShareCache)
	case c.Pause != PauseContainer && c.Pause != PauseMachine:
		return fmt.Errorf("pause is %.64q: it must be container or machine", c.Pause)
	case c.TemplateIdle < 1 || c.TemplateIdle > 7*24*3600:
		return fmt.Errorf("template_idle is %d: it must be 1 to 604800 seconds", c.TemplateIdle)
	case c.UIDBase < 1000 || c.UIDBase > math.MaxInt32-pidMax:
		return fmt.Errorf("uid_base is %d: it must be 1000 to %d", c.UIDBase, math.MaxInt32-pidMax)
	case c.MemoryMiB < minGuestMiB || c.MemoryMiB > c.MaxMemoryMiB:
		return fmt.Errorf("memory_mib is %d: it must be %d to max_memory_mib, %d", c.MemoryMiB, minGuestMiB, c.MaxMemoryMiB)
	case c.CPUs < 1 || c.CPUs > c.MaxCPUs || c.MaxCPUs > 255:
		return fmt.Errorf("cpus is %d, max_cpus %d: they must be 1 to 255, the first not above the second", c.CPUs, c.MaxCPUs)
	}
	return nil
}

// The annotations of a pod, or of a plain container, by which it says how large
// its machine is to be.
const (
	VMMemory = "berth.dev/vm-memory" // MiB
	VMCPUs   = "berth.dev/vm-cpus"
	// What the CRI says of the limits of a pod's containers together: memory in
	// bytes, 0 if there is none, and CPU time in each period, in µs.
	criMemory    = "io.kubernetes.cri.sandbox-memory"
	criCPUQuota  = "io.kubernetes.cri.sandbox-cpu-quota"
	criCPUPeriod = "io.kubernetes.cri.sandbox-cpu-period"
)

// guestOverheadMiB is what the guest's kernel and agent take: a container may
// use as much as its limit says all the same.
const guestOverheadMiB = 96

// Size is that of a machine for a pod with these annotations. What a pod says of
// its machine counts, within the bounds; then what the CRI says of its limits,
// or else those that its first container has (own may be nil); then the
// default. No other annotation says anything here. The error is
// errdefs.ErrInvalidArgument.
func (c VM) Size(annotations map[string]string, own *specs.LinuxResources) (memoryMiB, cpus int, err error) {
	memoryMiB, cpus = c.MemoryMiB, c.CPUs
	memory, quota, period := limits(annotations, own)
	if memory > 0 {
		memoryMiB = int(min(max(memory>>20+guestOverheadMiB, int64(c.MemoryMiB)), int64(c.MaxMemoryMiB)))
	}
	if quota > 0 && period > 0 {
		cpus = int(min(max((quota-1)/period+1, int64(c.CPUs)), int64(c.MaxCPUs)))
	}
	for _, a := range []struct {
		name      string
		into      *int
		low, high int
	}{
		{VMMemory, &memoryMiB, minGuestMiB, c.MaxMemoryMiB}, {VMCPUs, &cpus, 1, c.MaxCPUs},
	} {
		text, ok := annotations[a.name]
		if !ok {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < a.low || n > a.high {
			return 0, 0, fmt.Errorf("annotation %s is %.64q: it must be a number from %d to %d: %w",
				a.name, text, a.low, a.high, errdefs.ErrInvalidArgument)
		}
		*a.into = n
	}
	return memoryMiB, cpus, nil
}

// PauseMode is what is stopped by pausing.
type PauseMode string

const (
	// PauseContainer freezes containers: the guest's kernel goes on.
	PauseContainer PauseMode = "container"
	// PauseMachine stops the machine too, once all its containers are frozen.
	PauseMachine PauseMode = "machine"
)

// limits are those of the pod, or of its first container where nobody speaks for
// the pod; 0 is none.
func limits(annotations map[string]string, own *specs.LinuxResources) (memory, quota, period int64) {
	_, ofPod := annotations[criMemory]
	if ofPod {
		for name, into := range map[string]*int64{criMemory: &memory, criCPUQuota: &quota, criCPUPeriod: &period} {
			if n, err := strconv.ParseInt(annotations[name], 10, 64); err == nil {
				*into = n
			}
		}
		return memory, quota, period
	}
	if own == nil {
		return 0, 0, 0
	}
	if own.Memory != nil && own.Memory.Limit != nil {
		memory = *own.Memory.Limit
	}
	if own.CPU != nil && own.CPU.Quota != nil {
		quota, period = *own.CPU.Quota, 100_000 // the kernel's default
		if own.CPU.Period != nil && *own.CPU.Period > 0 {
			period = int64(min(*own.CPU.Period, math.MaxInt32))
		}
	}
	return memory, quota, period
}
