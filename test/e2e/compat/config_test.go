// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/test/e2e/image"
)

// commonConfig is the part that all versions read alike.
const commonConfig = `version = @CONFIG@
root = '@DIR@/root'
state = '@DIR@/state'
temp = '@DIR@/tmp'
imports = []
disabled_plugins = [@DISABLED@]
[debug]
level = 'debug'
[grpc]
address = '@DIR@/c.sock'
[ttrpc]
address = '@DIR@/c.sock.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
path = '@DIR@/opt'
[plugins.'io.containerd.nri.v1.nri']
disable = true
[plugins.'io.containerd.image-verifier.v1.bindir']
bin_dir = '@DIR@/verifiers'
`

// criConfig1 is CRI's part for containerd 1.7.
const criConfig1 = `
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '@PAUSE@'
restrict_oom_score_adj = true
disable_apparmor = true
[plugins.'io.containerd.grpc.v1.cri'.containerd]
snapshotter = '@SNAPSHOTTER@'
default_runtime_name = 'pod'
`

// criConfig2 is CRI's part for containerd 2.
const criConfig2 = `
[plugins.'io.containerd.cri.v1.images']
snapshotter = '@SNAPSHOTTER@'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '@PAUSE@'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
disable_apparmor = true
cdi_spec_dirs = ['@DIR@/cdi']
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'pod'
`

// handlers are CRI's runtimes: one with options, and one with an option that does not
// exist.
const handlers = `
[plugins.'@CRI@'.cni]
conf_dir = '@DIR@/cni'
[plugins.'@CRI@'.containerd.runtimes.pod]
runtime_type = 'io.containerd.pod.v2'
[plugins.'@CRI@'.containerd.runtimes.pod.options]
SystemdCgroup = false
BinaryName = '@RUNC@'
Root = '@DIR@/runc'
[plugins.'@CRI@'.containerd.runtimes.typo]
runtime_type = 'io.containerd.pod.v2'
[plugins.'@CRI@'.containerd.runtimes.typo.options]
SystemdCgroop = false
`

// writeConfig writes the configuration for one version; root, state and addresses are
// the same for all.
func (h *host) writeConfig(t *testing.T, v version) {
	t.Helper()
	text, config, plugin := commonConfig+criConfig2+handlers, "3", "io.containerd.cri.v1.runtime"
	disabled := "'io.containerd.internal.v1.tracing', 'io.containerd.tracing.processor.v1.otlp', " +
		"'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.erofs'"
	if v.major == "1" {
		text, config, plugin = commonConfig+criConfig1+handlers, "2", "io.containerd.grpc.v1.cri"
		disabled = "'io.containerd.internal.v1.tracing', 'io.containerd.tracing.processor.v1.otlp', 'io.containerd.snapshotter.v1.blockfile'"
	}
	text = strings.NewReplacer(
		"@CONFIG@", config,
		"@DISABLED@", disabled,
		"@CRI@", plugin,
		"@DIR@", h.dir,
		"@PAUSE@", image.Pause,
		"@RUNC@", h.runc,
		"@SNAPSHOTTER@", h.snapshotter,
	).Replace(text)
	if err := os.WriteFile(filepath.Join(h.dir, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
