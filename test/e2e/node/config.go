// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
)

// The runtime handlers that the node's CRI knows, by the runtime that each names.
const (
	PodRuntime  = "io.containerd.pod.v2"
	GPURuntime  = "io.containerd.gpu.v2"
	VMRuntime   = "io.containerd.vm.v2"
	RuncRuntime = "io.containerd.runc.v2"

	PodHandler = "pod"
	GPUHandler = "gpu"
	// GPUUsersHandler is that of pods with a user namespace, see docs/gpu.md.
	GPUUsersHandler = "gpu-users"
	VMHandler       = "vm"
	RuncHandler     = "runc"
)

// configTemplate is containerd's configuration; @DIR@ and the like are replaced.
// Everything that containerd would put in a well-known place of the host is moved
// into the node's directory, or off.
const configTemplate = `version = 3
root = '@DIR@/root'
state = '@DIR@/state'
temp = '@DIR@/tmp'
imports = []
disabled_plugins = [
  'io.containerd.internal.v1.tracing',
  'io.containerd.tracing.processor.v1.otlp',
  @UNUSED@
  'io.containerd.image-verifier.v1.bindir',
]

[debug]
level = '@LEVEL@'

[grpc]
address = '@DIR@/c.sock'

[ttrpc]
address = '@DIR@/c.sock.ttrpc'

[plugins.'io.containerd.shim.v1.manager']
socket_dir = '@DIR@/s'

[plugins.'io.containerd.snapshotter.v1.blockfile']
scratch_file = '@DIR@/scratch'
recreate_scratch = true
fs_type = 'ext4'
mount_options = ['loop']

[plugins.'io.containerd.snapshotter.v1.erofs']
default_size = '@SIZE@'

[plugins.'io.containerd.internal.v1.opt']
path = '@DIR@/opt'

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images']
snapshotter = '@SNAPSHOTTER@'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '@PAUSE@'

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_apparmor = @PLAIN@
enable_selinux = @SECURED@
selinux_category_range = 4
cdi_spec_dirs = ['@DIR@/cdi']
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['@TOOLS@']
conf_dir = '@DIR@/cni'
max_conf_num = @NETWORKS@
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'pod'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.pod]
runtime_type = 'io.containerd.pod.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.pod.options]
Root = '@DIR@/runc'
SystemdCgroup = @SYSTEMD@
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu]
runtime_type = 'io.containerd.gpu.v2'
pod_annotations = ['berth.dev/*']
container_annotations = ['berth.dev/*']
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu.options]
Root = '@DIR@/runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.vm]
runtime_type = 'io.containerd.vm.v2'
pod_annotations = ['berth.dev/*', 'io.katacontainers.*']
privileged_without_host_devices = true
privileged_without_host_devices_all_devices_allowed = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu-users]
runtime_type = 'io.containerd.runc.v2'
runtime_path = '@BIN@/containerd-shim-gpu-v2'
pod_annotations = ['berth.dev/*']
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu-users.options]
Root = '@DIR@/runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
Root = '@DIR@/runc'
SystemdCgroup = @SYSTEMD@
`

// cniTemplate gives pods an address on a bridge, which lies in the node's own
// network namespace and goes with it.
const cniTemplate = `{
  "cniVersion": "1.0.0",
  "name": "berth",
  "plugins": [{
    "type": "bridge", "bridge": "cni0", "isGateway": true,
    "ipam": {"type": "host-local", "dataDir": "@DIR@/ipam", "ranges": [[{"subnet": "10.88.0.0/16"}]]}
  }]
}
`

// vmTemplate is the configuration of the vm shim. The guest image is that of
// `make guest GUEST=.tools/guest`.
const vmTemplate = `accel = ["kvm", "tcg"]
image = "@GUEST@"
run_dir = "@DIR@/vm"
memory_mib = 256
`

// writeConfig lays out the node's directory.
func (n *Node) writeConfig() error {
	for _, dir := range []string{"root", "state", "tmp", "cni", "fifo", "pods", "runc", "s"} {
		mode := os.FileMode(0o700)
		if dir == "state" {
			mode = 0o711 // bundles are in it: the root of a user namespace passes through
		}
		if err := os.Mkdir(filepath.Join(n.dir, dir), mode); err != nil {
			return fmt.Errorf("lay out node: %w", err)
		}
	}
	if label := n.config.RootLabel; label != "" {
		if err := unix.Setxattr(filepath.Join(n.dir, "root"), "security.selinux", []byte(label), 0); err != nil {
			return fmt.Errorf("label the root directory: %w", err)
		}
	}
	if n.config.StateSize > 0 {
		if err := n.mountState(); err != nil {
			return err
		}
	}
	unused, err := n.chooseSnapshotter()
	if err != nil {
		return err
	}
	values := strings.NewReplacer(
		"@DIR@", n.dir,
		"@LEVEL@", n.config.logLevel(),
		"@SNAPSHOTTER@", n.snapshotter,
		"@UNUSED@", unused, "@SIZE@", DiskSize,
		"@PAUSE@", image.Pause,
		"@BIN@", filepath.Join(n.checkout, "bin"),
		"@TOOLS@", filepath.Join(n.checkout, ".tools", "bin"),
		"@NETWORKS@", strconv.Itoa(len(n.config.networks())),
		"@PLAIN@", strconv.FormatBool(!n.config.Secured), "@SECURED@", strconv.FormatBool(n.config.Secured),
		"@SYSTEMD@", strconv.FormatBool(n.config.Systemd),
		"@GUEST@", filepath.Join(n.checkout, ".tools", "guest"),
	)
	files := map[string]string{
		"config.toml": configTemplate,
		"vm.toml":     vmTemplate + n.config.VM,
		"shim.toml":   n.config.Shim,
		"crictl.yaml": "runtime-endpoint: unix://@DIR@/c.sock\nimage-endpoint: unix://@DIR@/c.sock\ntimeout: 60\n",
	}
	for i, network := range n.config.networks() {
		files[fmt.Sprintf("cni/%02d.conflist", i)] = network
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(values.Replace(content)), 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// mountState mounts a tmpfs at the state directory, and moves the shims' sockets
// there.
func (n *Node) mountState() error {
	options := fmt.Sprintf("mode=711,size=%d", n.config.StateSize)
	if err := unix.Mount("berth-test", n.StateDir(), "tmpfs", 0, options); err != nil {
		return fmt.Errorf("mount the state directory: %w", err)
	}
	sockets := filepath.Join(n.dir, "s")
	if err := os.Remove(sockets); err != nil {
		return fmt.Errorf("lay out node: %w", err)
	}
	if err := os.Mkdir(filepath.Join(n.StateDir(), "s"), 0o700); err != nil {
		return fmt.Errorf("lay out node: %w", err)
	}
	if err := os.Symlink("state/s", sockets); err != nil {
		return fmt.Errorf("lay out node: %w", err)
	}
	return nil
}
