// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"net"
	"os"
	"strings"

	"berth/process"
	"berth/sandbox/vm/image"
	"berth/sandbox/vm/vfio"
)

// Accel is what runs a guest's instructions.
type Accel string

const (
	// KVM is the kernel's virtual machine.
	KVM Accel = "kvm"
	// TCG is QEMU's emulation: some fifty times slower, and no protection
	// that anybody vouches for. It is for tests and demonstrations.
	TCG Accel = "tcg"
)

// Config is a machine to be booted.
type Config struct {
	// ID names the machine to people; letters, digits and "_.-".
	ID         string
	Supervisor *process.Supervisor
	Image      image.Image
	// Accel are what may run the guest, the best first. KVM counts only if
	// it really runs guests.
	Accel []Accel
	// MemoryMiB and CPUs are fixed for the life of the machine.
	MemoryMiB int
	CPUs      int
	// Share is a directory of the host's that the guest can mount as
	// virtiofs with the tag ShareTag; empty is none. What is mounted below it
	// later, the guest sees too, if the directory is on a shared mount.
	Share string
	// ShareCached has the guest never ask whether the host has changed what it has
	// read of the share. Otherwise it asks when that was a second ago.
	ShareCached bool
	NICs        []NIC
	// LaterNICs has a machine that boots have ports for NICs (AddNIC), as one that is
	// made of a template has.
	LaterNICs bool
	// Network is the pod's network namespace, which QEMU joins; nil leaves it
	// in the caller's. The caller keeps it.
	Network *os.File

	// VFIO are groups of the IOMMU whose devices are the guest's from the start.
	VFIO []vfio.Group

	// QEMU and Virtiofsd are programs of the host's.
	QEMU      string
	Virtiofsd string
	// Launcher is a program, with arguments, that hands the number of a
	// descriptor, its last argument, to jail.Enter.
	Launcher []string
	// UID and GID are whom QEMU runs as: nobody else's, root is refused.
	UID, GID int
	// Cgroup is where QEMU and virtiofsd go, in the form of an OCI spec's
	// cgroupsPath; it must not be there yet. Empty leaves them in the caller's.
	Cgroup string

	origin origin
}

// NIC is a network interface of a machine.
type NIC struct {
	// Tap is the descriptor of a tap interface, with IFF_NO_PI and
	// IFF_VNET_HDR. The caller keeps it.
	Tap *os.File
	MAC net.HardwareAddr
}

// ShareTag is the name of the virtiofs share in the guest.
const ShareTag = "berth"

const (
	// MinMemoryMiB is the least with which the guest boots and can run a
	// container; with 64 MiB the kernel does not come up.
	MinMemoryMiB = 96
	// maxNICs is what microvm's 24 virtio-mmio transports leave beside the
	// other devices (see arguments).
	maxNICs = 16
)

func (c *Config) validate() error {
	switch {
	case c.ID == "" || len(c.ID) > 128 || strings.Trim(c.ID, idChars) != "":
		return fmt.Errorf("machine id %.140q: 1 to 128 letters, digits or _.- are needed", c.ID)
	case c.MemoryMiB < MinMemoryMiB:
		return fmt.Errorf("machine %s would have %d MiB of memory: %d are needed to boot", c.ID, c.MemoryMiB, MinMemoryMiB)
	case c.CPUs < 1 || c.CPUs > 255:
		return fmt.Errorf("machine %s would have %d CPUs: 1 to 255 are possible", c.ID, c.CPUs)
	case len(c.NICs) > maxNICs:
		return fmt.Errorf("machine %s would have %d network interfaces: %d are possible", c.ID, len(c.NICs), maxNICs)
	case c.UID <= 0 || c.GID <= 0:
		return fmt.Errorf("machine %s would run as user %d and group %d: it must be an unprivileged user of its own", c.ID, c.UID, c.GID)
	case len(c.Launcher) == 0:
		return fmt.Errorf("machine %s has no launcher", c.ID)
	}
	return nil
}

const idChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
