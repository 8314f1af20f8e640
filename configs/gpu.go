// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
)

// GPUPath is where the gpu shim and `berth gpu` look for their configuration:
// /etc/berth/gpu.toml, or the file that BERTH_GPU_CONFIG names in the
// environment, which containerd hands on to its shims.
func GPUPath(getenv func(string) string) string {
	if path := getenv("BERTH_GPU_CONFIG"); path != "" {
		return path
	}
	return "/etc/berth/gpu.toml"
}

// GPU is the policy of the gpu shim on one host.
type GPU struct {
	// DriverRoot is the root below which the driver's files lie; DevRoot,
	// ProcRoot and SysRoot are the directories of the device nodes and of the
	// kernel's file systems; RunDir holds what is kept until the next boot.
	DriverRoot string `toml:"driver_root"`
	DevRoot    string `toml:"dev_root"`
	ProcRoot   string `toml:"proc_root"`
	SysRoot    string `toml:"sys_root"`
	RunDir     string `toml:"run_dir"`
	// Helper is the program berth-gpu; empty is the one beside the shim.
	Helper string `toml:"helper"`
	// Kmsg is the kernel's log, read for Xid messages; empty reads none.
	Kmsg string `toml:"kmsg"`

	// EnvPlain and EnvKubernetes name the environment variables that may ask
	// for devices in a plain container and in one of a Kubernetes pod. Who
	// wrote an image can set any of them.
	EnvPlain      []string `toml:"env_plain"`
	EnvKubernetes []string `toml:"env_kubernetes"`
	// VolumeMounts has requests by mounts of /dev/null below
	// /var/run/nvidia-container-devices count.
	VolumeMounts bool `toml:"volume_mounts"`

	// Sockets are the driver's daemons whose sockets a container may get:
	// "persistenced", "fabricmanager", "mps".
	Sockets []string `toml:"sockets"`
	// IgnoreFabric lets containers have GPUs on a machine with NVSwitches
	// whose fabric manager does not run.
	IgnoreFabric bool `toml:"ignore_fabric"`
	// CUDACompat has an image's CUDA forward-compatibility libraries
	// preferred where they are newer than the driver's.
	CUDACompat bool `toml:"cuda_compat"`

	// Xid says by class of an Xid what is done about it, beyond the report.
	Xid XidPolicy `toml:"xid"`
	// MIG says which GPUs are partitioned on demand.
	MIG MIGPolicy `toml:"mig"`
	// MPS says how daemons of the Multi-Process Service are run.
	MPS MPSPolicy `toml:"mps"`
}

// MPSPolicy is for containers that ask for the Multi-Process Service.
type MPSPolicy struct {
	// Multiuser has the containers of a pod share a daemon whatever users they
	// run as, by a server that runs as root.
	Multiuser bool `toml:"multiuser"`
	// OnDeath is what happens to the containers whose daemon has died: "kill" or
	// "report".
	OnDeath string `toml:"on_death"`
}

// MIGPolicy is for containers that ask for a MIG device to be made. GPUs are
// named by UUID or by PCI address; LoadGPU gives either in the form that the
// kernel and NVML have.
type MIGPolicy struct {
	// GPUs are those that may be partitioned, and are given to no container
	// whole; empty is every GPU that is in MIG mode.
	GPUs []string `toml:"gpus"`
	// ShareForeign has MIG devices made also where an administrator or another
	// program has made some.
	ShareForeign bool `toml:"share_foreign"`
	// AllowMode names the GPUs whose MIG mode may be turned on, if they are
	// idle, and Hopper or later.
	AllowMode []string `toml:"allow_mode"`
	// Timeout is for how many seconds a container waits for its MIG devices.
	Timeout int `toml:"timeout"`
	// KeepIdle is for how many seconds a device is kept for the next container
	// that asks for the same; 0 keeps none.
	KeepIdle int `toml:"keep_idle"`
}

// XidPolicy names what happens on Xids, by number or by class ("app",
// "reset", "machine"): the containers that are hit are killed, or the GPU is
// barred from new ones until it was reset.
type XidPolicy struct {
	Kill   []string `toml:"kill"`
	Bar    []string `toml:"bar"`
	Ignore []string `toml:"ignore"`
}

// DefaultGPU is the configuration of a host without a file.
func DefaultGPU() GPU {
	return GPU{
		DriverRoot: "/", DevRoot: "/dev", ProcRoot: "/proc", SysRoot: "/sys",
		RunDir: "/run/berth", Kmsg: "/dev/kmsg",
		EnvPlain: []string{"NVIDIA_VISIBLE_DEVICES"}, VolumeMounts: true,
		Sockets: []string{"fabricmanager"}, CUDACompat: true,
		Xid: XidPolicy{Bar: []string{"reset", "machine"}},
		MIG: MIGPolicy{GPUs: []string{}, AllowMode: []string{}, Timeout: 60},
		MPS: MPSPolicy{OnDeath: "kill"},
	}
}

// LoadGPU reads a file of the gpu shim's configuration. What it does not
// mention has its default; a file that is not there is all defaults, and so is
// what comes with an error. That names the file and the line, and is
// errdefs.ErrInvalidArgument.
func LoadGPU(path string) (GPU, error) {
	c := DefaultGPU()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return DefaultGPU(), fmt.Errorf("open the configuration of the gpu shim: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(&c); err != nil {
		return DefaultGPU(), fmt.Errorf("%s: %w: %w", path, describe(err), errdefs.ErrInvalidArgument)
	}
	if err := errors.Join(c.MIG.normalise(), c.validate()); err != nil {
		return DefaultGPU(), fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func (m *MIGPolicy) normalise() (err error) {
	if m.GPUs, err = gpuNames("mig.gpus", m.GPUs); err == nil {
		m.AllowMode, err = gpuNames("mig.allow_mode", m.AllowMode)
	}
	return err
}

// describe says in one line what the decoder has to say in several.
func describe(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		line, _ := unknown.Errors[0].Position()
		return fmt.Errorf("line %d: option %.64q is not known", line, strings.Join(unknown.Errors[0].Key(), "."))
	}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		line, _ := at.Position()
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

func (c GPU) validate() error {
	for _, p := range []struct{ name, path string }{
		{"driver_root", c.DriverRoot}, {"dev_root", c.DevRoot}, {"proc_root", c.ProcRoot},
		{"sys_root", c.SysRoot}, {"run_dir", c.RunDir},
	} {
		if !filepath.IsAbs(p.path) {
			return fmt.Errorf("%s is %q: it must be an absolute path", p.name, p.path)
		}
	}
	if c.Helper != "" && !filepath.IsAbs(c.Helper) {
		return fmt.Errorf("helper is %q: it must be an absolute path, or empty", c.Helper)
	}
	if c.Kmsg != "" && !filepath.IsAbs(c.Kmsg) {
		return fmt.Errorf("kmsg is %q: it must be an absolute path, or empty", c.Kmsg)
	}
	if c.MIG.Timeout < 1 || c.MIG.Timeout > 600 {
		return fmt.Errorf("mig.timeout is %d: it must be 1 to 600 seconds", c.MIG.Timeout)
	}
	if c.MIG.KeepIdle < 0 || c.MIG.KeepIdle > 3600 {
		return fmt.Errorf("mig.keep_idle is %d: it must be 0 to 3600 seconds", c.MIG.KeepIdle)
	}
	if c.MPS.OnDeath != "kill" && c.MPS.OnDeath != "report" {
		return fmt.Errorf("mps.on_death is %.64q: it must be kill or report", c.MPS.OnDeath)
	}
	for _, s := range c.Sockets {
		switch s {
		case "persistenced", "fabricmanager", "mps":
		default:
			return fmt.Errorf("socket %.64q is not known; known are persistenced, fabricmanager, mps", s)
		}
	}
	for _, name := range slices.Concat(c.EnvPlain, c.EnvKubernetes) {
		if name == "" || strings.TrimLeft(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("%.64q does not name an environment variable: letters, digits and _ do", name)
		}
	}
	return nil
}
