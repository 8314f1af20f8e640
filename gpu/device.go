// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"io/fs"
	"path/filepath"
)

// Roots says where the host's files are. All are absolute.
type Roots struct {
	// Driver is the root below which the driver's user-space files lie:
	// "/", or where a driver container has mounted its own.
	Driver string
	// Dev, Proc and Sys are the directories that hold the device nodes and
	// the kernel's file systems: "/dev", "/proc" and "/sys".
	Dev, Proc, Sys string
	// Run holds what Berth itself keeps until the next boot: "/run/berth".
	Run string
}

// DefaultRoots is where everything is on a host.
func DefaultRoots() Roots {
	return Roots{Driver: "/", Dev: "/dev", Proc: "/proc", Sys: "/sys", Run: "/run/berth"}
}

func (r Roots) driver(path ...string) string { return join(r.Driver, path) }
func (r Roots) dev(path ...string) string    { return join(r.Dev, path) }
func (r Roots) proc(path ...string) string   { return join(r.Proc, path) }
func (r Roots) sys(path ...string) string    { return join(r.Sys, path) }
func (r Roots) run(path ...string) string    { return join(filepath.Join(r.Run, "gpu"), path) }

func join(root string, path []string) string {
	return filepath.Join(append([]string{root}, path...)...)
}

// Device is a whole GPU.
type Device struct {
	// Index is its place in the order of the PCI bus, which is NVML's order.
	Index int `json:"index"`
	// UUID is "GPU-" and a UUID, or empty as long as the driver does not say
	// it: it does once the GPU was opened since the driver was loaded.
	UUID string `json:"uuid"`
	// BusID is the PCI address as in "0000:3b:00.0".
	BusID string `json:"bus_id"`
	// Minor is that of /dev/nvidiaMINOR. It need not be Index.
	Minor    int    `json:"minor"`
	Model    string `json:"model"`
	Excluded bool   `json:"excluded,omitempty"`
	// MIG are the GPU's partitions, if it has any. Those of a Discover have
	// neither Index nor UUID, which only NVML knows.
	MIG []Instance `json:"mig,omitempty"`
	// MIGMode says that the GPU is in MIG mode, where NVML was asked.
	MIGMode bool `json:"mig_mode,omitempty"`
	// Kept is why nobody is given the GPU whole, where a planner has looked;
	// empty if it may be.
	Kept string `json:"-"`
	// record says which MIG devices are other containers', where a planner has looked.
	record onRecord
}

// Instance is a MIG device: a compute instance in a GPU instance.
type Instance struct {
	Index int    `json:"index"` // among the MIG devices of its GPU, in NVML's order
	UUID  string `json:"uuid"`  // "MIG-" and a UUID
	GI    int    `json:"gi"`    // the GPU instance's id
	CI    int    `json:"ci"`    // the compute instance's id in it
}

// Node is a device node of the host, as it is now.
type Node struct {
	// Path is the node's name in the container, Host its name on the host.
	// They differ only where Roots.Dev is not "/dev".
	Path, Host   string
	Major, Minor uint32
	Mode         fs.FileMode // permissions alone
	UID, GID     uint32
}
