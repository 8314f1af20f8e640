// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Config says which machine to build. GPUs are named by their place in PCI order.
type Config struct {
	Model       Model  // H200 if empty
	GPUs        int    // 1 to 8; 1 if zero
	Domain      uint16 // PCI domain; some clouds give each GPU one that is not 0
	Version     string // of the kernel module; 570.124.06 if empty
	LibVersion  string // of the libraries, firmware and programs; Version if empty
	OpenModule  bool   // the open kernel module; it changes what the version file says
	NVSwitch    bool
	MIG         [][]Instance // per GPU
	Compat32    bool         // 32-bit libraries too
	Lib64       bool         // RHEL's library directories instead of Debian's
	Excluded    []int
	UUIDUnknown []int    // GPUs that nobody has opened since the module was loaded
	UUIDs       []string // instead of the made-up ones
	UnloadedUVM bool     // nvidia-uvm is not loaded: no major, no nodes
	NoModeset   bool     // nvidia-modeset and nvidia-drm are not loaded: no DRM nodes either

	IMEXChannels  int // nodes channel0 and up
	Persistenced  bool
	FabricManager bool

	Majors Majors // those that are not zero
	NVML   string // path of a library to install as libnvidia-ml.so
	SMI    string // path of a program to install as nvidia-smi, see [BuildSMI]
	MPS    string // path of a program to install as MPS's control daemon and server, see [BuildMPS]
	NoMPS  bool   // the package that has them is not installed
}

// Majors are the device numbers that the kernel gives anew when a module is loaded.
type Majors struct{ UVM, Caps, NVSwitch, NVLink, IMEX int }

// Instance is a compute instance in its GPU instance.
type Instance struct{ GI, CI int }

// NoCI stands for CI: a GPU instance that has no compute instance.
const NoCI = -1

// Driver is a machine that was built.
type Driver struct {
	Root    string // the driver root, which is a whole root: dev, proc and sys are in it
	Dev     string
	Proc    string
	Sys     string
	LibDir  string // of the 64-bit libraries, as seen inside Root
	Version string
	CUDA    string // version of CUDA, such as 12.8
	Majors  Majors
	GPUs    []GPU // in PCI order

	cfg     Config
	hw      hardware
	ours    bool // Root did not exist before
	sockets []int
}

// Build makes the machine in dir, which must be empty or missing. It needs root, for mknod(2)
// and for ldconfig(8), which changes its root.
func Build(dir string, cfg Config) (_ *Driver, err error) {
	hw, err := cfg.check()
	if err != nil {
		return nil, err
	}
	// A relative path would be lost on those who are given it.
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	d := &Driver{
		Root: dir, Dev: filepath.Join(dir, "dev"), Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys"),
		LibDir: "/usr/lib/x86_64-linux-gnu", Version: cfg.Version, CUDA: cudaOf(cfg.LibVersion),
		Majors: cfg.Majors, GPUs: cfg.gpus(hw), cfg: cfg, hw: hw,
	}
	if cfg.Lib64 {
		d.LibDir = "/usr/lib64"
	}
	found, err := os.ReadDir(dir)
	if len(found) > 0 {
		return nil, fmt.Errorf("build fake driver in %s: it is not empty (it has %q): name a new directory: %w",
			dir, found[0].Name(), errdefs.ErrFailedPrecondition)
	}
	d.ours = os.IsNotExist(err)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	t := &tree{root: dir}
	d.proc(t)
	d.dev(t)
	d.sys(t)
	d.user(t)
	for i, instances := range cfg.MIG {
		for _, in := range instances {
			d.instance(t, d.GPUs[i], in)
		}
	}
	if t.err != nil {
		d.Close()
		return nil, fmt.Errorf("build fake driver: %w", t.err)
	}
	return d, nil
}

// Close removes all of it.
func (d *Driver) Close() error {
	for _, fd := range d.sockets {
		unix.Close(fd)
	}
	d.sockets = nil
	if d.ours {
		return os.RemoveAll(d.Root)
	}
	entries, err := os.ReadDir(d.Root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(d.Root, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// check fills in what was left out.
func (c *Config) check() (hardware, error) {
	c.Model = cmp.Or(c.Model, H200)
	c.GPUs = cmp.Or(c.GPUs, 1)
	c.Version = cmp.Or(c.Version, "570.124.06")
	c.LibVersion = cmp.Or(c.LibVersion, c.Version)
	c.Majors = Majors{UVM: cmp.Or(c.Majors.UVM, 511), NVLink: cmp.Or(c.Majors.NVLink, 510), NVSwitch: cmp.Or(c.Majors.NVSwitch, 509),
		Caps: cmp.Or(c.Majors.Caps, 508), IMEX: cmp.Or(c.Majors.IMEX, 234)}
	hw, err := hardwareOf(c.Model)
	if err != nil {
		return hw, err
	}
	wrong := func(format string, args ...any) (hardware, error) {
		return hw, fmt.Errorf("fake driver: "+format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	for _, v := range []string{c.Version, c.LibVersion} {
		if majorOf(v) < 450 || strings.ContainsAny(v, "/ \n") {
			return wrong("version %q is not one of a driver since 450, such as 570.124.06", v)
		}
	}
	if c.GPUs < 1 || c.GPUs > 8 || len(c.MIG) > c.GPUs {
		return wrong("%d GPUs and MIG instances of %d: a machine has 1 to 8 GPUs", c.GPUs, len(c.MIG))
	}
	for _, i := range slices.Concat(c.Excluded, c.UUIDUnknown) {
		if i < 0 || i >= c.GPUs {
			return wrong("GPU %d of %d", i, c.GPUs)
		}
	}
	if !hw.mig && len(slices.Concat(c.MIG...)) > 0 || hw.switches == 0 && c.NVSwitch {
		return wrong("a %s has no MIG and no NVSwitch", hw.name)
	}
	for _, in := range slices.Concat(c.MIG...) {
		if err := in.check(); err != nil {
			return hw, err
		}
	}
	return hw, nil
}
