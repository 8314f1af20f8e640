// SPDX-License-Identifier: Apache-2.0

// Package test holds what is true of the whole module: which package may
// import which, and which modules a shim may carry.
package test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed lists, for each package, the packages of this module that it may
// import. Imports point one way; a package that is not here may not exist.
var allowed = map[string][]string{
	"berth/cmd/berth":                  {"berth/gpu", "berth/gpu/ledger", "berth/gpu/mps", "berth/gpu/nvml", "berth/hooks", "berth/process", "berth/configs", "berth/sandbox/template", "berth/sandbox/vm/image/build"},
	"berth/cmd/berth-agent":            {"berth/process", "berth/process/native", "berth/sandbox/agent", "berth/sandbox/agentapi", "berth/sandbox/mux"},
	"berth/cmd/berth-gpu":              {"berth/gpu/ledger", "berth/gpu/mig", "berth/gpu/nvml"},
	"berth/cmd/containerd-shim-gpu-v2": {"berth/shim", "berth/shim/detach", "berth/shim/driver", "berth/gpu", "berth/hooks", "berth/configs"},
	"berth/cmd/containerd-shim-pod-v2": {"berth/shim", "berth/shim/detach", "berth/shim/driver", "berth/hooks", "berth/configs"},
	"berth/cmd/containerd-shim-vm-v2": {
		"berth/shim", "berth/sandbox", "berth/sandbox/agentapi", "berth/sandbox/remote", "berth/sandbox/template", "berth/sandbox/vm",
		"berth/sandbox/vm/image", "berth/sandbox/vm/jail", "berth/sandbox/vm/network", "berth/sandbox/vm/vfio", "berth/process", "berth/process/cgroup", "berth/hooks", "berth/configs",
	},

	"berth/shim":                {"berth/sandbox", "berth/sandbox/turnstile", "berth/process", "berth/process/oci", "berth/hooks", "berth/configs", "berth/process/cgroup"},
	"berth/shim/detach":         {},
	"berth/shim/driver":         {"berth/shim", "berth/sandbox", "berth/process", "berth/process/native", "berth/process/oci", "berth/configs"},
	"berth/sandbox":             {"berth/process", "berth/process/oci", "berth/process/cgroup", "berth/hooks", "berth/configs"},
	"berth/sandbox/agent":       {"berth/process", "berth/process/oci", "berth/process/cgroup", "berth/sandbox/agentapi", "berth/sandbox/mux", "berth/sandbox/netlink", "berth/sandbox/turnstile"},
	"berth/sandbox/mux":         {},
	"berth/sandbox/netlink":     {},
	"berth/sandbox/remote":      {"berth/sandbox", "berth/sandbox/vm/vfio", "berth/sandbox/agentapi", "berth/sandbox/mux", "berth/process", "berth/process/oci", "berth/process/cgroup"},
	"berth/sandbox/agentapi":    {},
	"berth/sandbox/turnstile":   {},
	"berth/sandbox/runtimetest": {"berth/sandbox", "berth/process", "berth/process/cgroup", "berth/hooks", "berth/configs"},

	"berth/process/oci":           {"berth/process"},
	"berth/process/native":        {"berth/process", "berth/process/oci", "berth/process/native/become"},
	"berth/process/native/become": {},
	"berth/process/cgroup":        {},
	"berth/process":               {},
	"berth/hooks":                 {},
	"berth/gpu":                   {"berth/gpu/ledger", "berth/gpu/loader", "berth/gpu/mig", "berth/gpu/mps", "berth/gpu/nvml", "berth/gpu/rootfs", "berth/hooks", "berth/process", "berth/process/cgroup", "berth/configs"},
	"berth/gpu/loader":            {"berth/gpu/rootfs"},
	"berth/gpu/ledger":            {"berth/gpu/nvml", "berth/process", "berth/process/cgroup"},
	"berth/gpu/mig":               {},
	"berth/gpu/mps":               {"berth/process", "berth/process/cgroup"},
	"berth/gpu/nvml":              {},
	"berth/gpu/mig/sim":           {"berth/gpu/mig"},
	"berth/gpu/rootfs":            {},
	"berth/configs":               {},

	"berth/sandbox/vm":             {"berth/process", "berth/process/cgroup", "berth/sandbox/vm/image", "berth/sandbox/vm/jail", "berth/sandbox/vm/kvm", "berth/sandbox/vm/qmp", "berth/sandbox/vm/vfio", "berth/sandbox/vm/vhostuser"},
	"berth/sandbox/template":       {"berth/process", "berth/process/cgroup", "berth/sandbox/agentapi", "berth/sandbox/mux", "berth/sandbox/vm", "berth/sandbox/vm/image"},
	"berth/sandbox/vm/jail":        {},
	"berth/sandbox/vm/kvm":         {},
	"berth/sandbox/vm/network":     {"berth/sandbox/agentapi", "berth/sandbox/netlink"},
	"berth/sandbox/vm/qmp":         {},
	"berth/sandbox/vm/vfio":        {},
	"berth/sandbox/vm/vhostuser":   {},
	"berth/sandbox/vm/image":       {},
	"berth/sandbox/vm/image/build": {"berth/sandbox/vm/image"},

	"berth/test":             {},
	"berth/test/leak":        {},
	"berth/test/shelter":     {},
	"berth/test/fakeoci":     {},
	"berth/test/fakenvml":    {},
	"berth/test/fakeoci/cmd": {"berth/test/fakeoci"},

	"berth/test/guestagent":     {"berth/sandbox/agent"},
	"berth/test/fakedriver":     {},
	"berth/test/fakedriver/cmd": {"berth/test/fakedriver"},
	"berth/test/fakedriver/smi": {},
	"berth/test/fakedriver/mps": {},
}

// heavy are packages that no shim may carry, with the reason.
var heavy = map[string]string{
	"google.golang.org/grpc":                       "a shim speaks ttrpc; only the status and codes of gRPC come with that",
	"github.com/NVIDIA/go-nvml/pkg/nvml":           "NVML is loaded by berth-gpu alone",
	"net/http":                                     "a server nobody asked for, and 2 MiB",
	"go.opentelemetry.io/otel":                     "tracing is the client's business",
	"github.com/containerd/containerd/v2/client":   "the shim is not a client",
	"github.com/containerd/containerd/v2/pkg/shim": "it owns SIGCHLD and a plugin registry",
	"github.com/containerd/plugin/registry":        "composition happens in cmd, by hand",
	"golang.org/x/net/http2":                       "a server nobody asked for, and 2 MiB",
	"github.com/checkpoint-restore/go-criu/v8":     "CRIU's protocol has the size of the rest of runc's library; runc's command line does it (tag runc_nocriu)",
	"testing":                          "tests stay in tests",
	"html/template":                    "it keeps the linker from dropping unused methods",
	"text/template":                    "it keeps the linker from dropping unused methods",
	"github.com/containerd/cgroups/v3": "process/cgroup encodes statistics by itself",
	"github.com/prometheus/client_golang/prometheus": "metrics are the operator tool's business",
}

// strict are packages that only runc's library may bring in.
var strict = map[string]string{
	"runtime/cgo": "a shim is static, and loads nothing",
	"os/exec":     "processes are started and reaped by berth/process alone",
	"github.com/opencontainers/runc/libcontainer": "containers of this host are made by berth/process/native alone",
}

// mayExec are the imports of os/exec by others that are accepted: the mount
// library runs mount helpers, under a Hold of the supervisor.
var mayExec = []string{"github.com/containerd/containerd/v2/core/mount", "github.com/containerd/continuity/fs"}

// native are packages by which a shim that makes containers of this host comes
// to what strict forbids. What they run, and wait for, is spared by the
// supervisor meanwhile.
var native = []string{
	"berth/process/native", "berth/shim/detach", "github.com/opencontainers/runc/", "github.com/opencontainers/cgroups", "github.com/opencontainers/selinux/",
	"github.com/seccomp/libseccomp-golang", "github.com/coreos/go-systemd/v22/", "github.com/godbus/dbus/v5", "github.com/cilium/ebpf",
	"github.com/moby/sys/", "runtime/cgo", "github.com/vishvananda/",
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags", "no_grpc,seccomp,runc_nocriu,netgo,osusergo"}, args...)...)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestImportsPointOneWay(t *testing.T) {
	for _, line := range list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		pkg, imports, _ := strings.Cut(line, " ")
		may, known := allowed[pkg]
		if !known {
			t.Errorf("%s is in no place of the table: add it, with what it may import", pkg)
		}
		for _, imp := range strings.Fields(imports) {
			if strings.HasPrefix(imp, "berth/") && !slices.Contains(may, imp) {
				t.Errorf("%s imports %s: see the table in this test and ARCHITECTURE.md", pkg, imp)
			}
		}
	}
}

func TestNothingHeavyIsCarried(t *testing.T) {
	for shim, mayNative := range map[string]bool{
		"./cmd/containerd-shim-pod-v2": true, "./cmd/containerd-shim-gpu-v2": true, "./cmd/containerd-shim-vm-v2": false,
	} {
		t.Run(shim, func(t *testing.T) { carriesNothingHeavy(t, shim, mayNative) })
	}
}

func carriesNothingHeavy(t *testing.T, shim string, mayNative bool) {
	importers := make(map[string][]string)
	for _, line := range list(t, "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, shim) {
		pkg, imports, _ := strings.Cut(line, " ")
		for _, imp := range strings.Fields(imports) {
			importers[imp] = append(importers[imp], pkg)
		}
	}
	if len(importers) < 50 {
		t.Fatalf("only %d packages are imported: is this the shim?", len(importers))
	}
	for imp, why := range heavy {
		if by := importers[imp]; len(by) > 0 {
			t.Errorf("%s is imported by %v: %s", imp, by, why)
		}
	}
	for imp, why := range strict {
		by := slices.DeleteFunc(importers[imp], func(pkg string) bool {
			return imp == "os/exec" && slices.Contains(mayExec, pkg) ||
				mayNative && slices.ContainsFunc(native, func(p string) bool { return strings.HasPrefix(pkg, p) })
		})
		if len(by) > 0 {
			t.Errorf("%s is imported by %v: %s", imp, by, why)
		}
	}
}
