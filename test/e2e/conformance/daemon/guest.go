// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// guestMemoryMiB is room for what the suites run, many times over.
const guestMemoryMiB = 256

// VMConfig is the file that BERTH_VM_CONFIG names to the shim.
func (d *Daemon) VMConfig() string { return filepath.Join(d.Dir, "vm.toml") }

// writeVMConfig writes what the machines are made of. They are emulated where
// KVM does not run guests.
func (d *Daemon) writeVMConfig() error {
	text := fmt.Sprintf("accel = [\"kvm\", \"tcg\"]\nimage = %q\nrun_dir = %q\nmemory_mib = %d\n%s",
		d.Guest, filepath.Join(d.Dir, "vm"), guestMemoryMiB, d.GuestOptions)
	if err := os.WriteFile(d.VMConfig(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the configuration of the vm shim: %w", err)
	}
	return nil
}

// sandboxAnnotation puts containers into one machine, as the CRI does.
const sandboxAnnotation = "io.kubernetes.cri.sandbox-id"

// IntoGuest has a container of the group be in a machine: none shares the
// network of the host.
func IntoGuest(spec *specs.Spec, group string) {
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	if group != "" {
		spec.Annotations[sandboxAnnotation] = group
	}
}
