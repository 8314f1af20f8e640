// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// requirement is one option of the kernel's configuration that a guest needs.
type requirement struct {
	option string
	// module is the module's name where the option may be "m"; empty where
	// it must be "y", because it is needed before any module is loaded or
	// cannot be a module.
	module string
	// why is what would not work.
	why string
}

// requirements are in the order in which their modules are wanted: what leads
// to the agent's port comes first. virtio_ring is no option that can be chosen,
// it comes as a dependency of the drivers and must precede virtio.
var requirements = []requirement{
	{"CONFIG_PVH", "", "start without firmware"},
	{"CONFIG_BLK_DEV_INITRD", "", "an initramfs"},
	{"CONFIG_BINFMT_ELF", "", "programs"},
	{"CONFIG_ACPI", "", "finding the microvm's devices, power off"},
	{"CONFIG_SERIAL_8250_CONSOLE", "", "the console"},
	{"CONFIG_DEVTMPFS", "", "device nodes"},
	{"CONFIG_TMPFS", "", "/run, /tmp and /dev/shm"},
	{"CONFIG_PROC_FS", "", "/proc"},
	{"CONFIG_SYSFS", "", "/sys"},
	{"CONFIG_UNIX", "", "sockets"},
	{"CONFIG_INET", "", "the network"},
	{"CONFIG_IPV6", "", "the network"},
	{"CONFIG_EPOLL", "", "the agent"},
	{"CONFIG_EVENTFD", "", "the agent"},
	{"CONFIG_INOTIFY_USER", "", "updates of ConfigMaps"},
	{"CONFIG_CGROUPS", "", "containers"},
	{"CONFIG_MEMCG", "", "memory limits"},
	{"CONFIG_CGROUP_PIDS", "", "process limits"},
	{"CONFIG_CGROUP_SCHED", "", "CPU shares"},
	{"CONFIG_CFS_BANDWIDTH", "", "CPU limits"},
	{"CONFIG_CPUSETS", "", "CPU sets"},
	{"CONFIG_CGROUP_BPF", "", "the device filter of containers"},
	{"CONFIG_NAMESPACES", "", "containers"},
	{"CONFIG_PID_NS", "", "containers"},
	{"CONFIG_NET_NS", "", "containers"},
	{"CONFIG_IPC_NS", "", "containers"},
	{"CONFIG_UTS_NS", "", "containers"},
	{"CONFIG_USER_NS", "", "containers with user namespaces"},
	{"CONFIG_SECCOMP_FILTER", "", "seccomp profiles"},
	{"CONFIG_MODULES", "", "drivers"},

	{"CONFIG_VIRTIO", "virtio", "every device"},
	{"CONFIG_VIRTIO_MMIO", "virtio_mmio", "every device"},
	{"CONFIG_VIRTIO_CONSOLE", "virtio_console", "the agent's port"},
	{"CONFIG_HW_RANDOM_VIRTIO", "virtio_rng", "entropy"},
	{"CONFIG_VIRTIO_BALLOON", "virtio_balloon", "memory that goes back to the host"},
	{"CONFIG_FUSE_FS", "fuse", "file systems shared with the host"},
	{"CONFIG_VIRTIO_FS", "virtiofs", "file systems shared with the host"},
	{"CONFIG_OVERLAY_FS", "overlay", "layers assembled in the guest"},
	{"CONFIG_SCSI_VIRTIO", "virtio_scsi", "disks"},
	{"CONFIG_BLK_DEV_SD", "sd_mod", "disks"},
	{"CONFIG_EXT4_FS", "ext4", "block root file systems and volumes"},
	{"CONFIG_EROFS_FS", "erofs", "layers on disks"},
	{"CONFIG_VIRTIO_NET", "virtio_net", "the network"},
	{"CONFIG_HOTPLUG_PCI_PCIE", "", "devices of a template's clones"},
	{"CONFIG_VIRTIO_PCI", "virtio_pci", "devices of a template's clones"},
}

// check fails with everything that the kernel's configuration lacks.
func (k *kernel) check() error {
	config, err := readConfig(k.config())
	if err != nil {
		return fmt.Errorf("read the configuration of kernel %s: %w", k.release, err)
	}
	return missing(k.release, config)
}

func missing(release string, config map[string]string) error {
	var lacks []string
	for _, r := range requirements {
		switch is := config[r.option]; {
		case is == "y", is == "m" && r.module != "":
		case is == "m":
			lacks = append(lacks, fmt.Sprintf("%s is m and must be y (%s)", r.option, r.why))
		default:
			lacks = append(lacks, fmt.Sprintf("%s is not set (%s)", r.option, r.why))
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("kernel %s cannot be a guest's: %s; choose another kernel, such as Debian's linux-image-cloud-amd64",
		release, strings.Join(lacks, "; "))
}

// readConfig reads the options that are set.
func readConfig(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	config := make(map[string]string)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok && strings.HasPrefix(name, "CONFIG_") {
			config[name] = value
		}
	}
	return config, lines.Err()
}
