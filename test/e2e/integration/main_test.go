// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/protobuf/proto"

	"berth/test/e2e/node"
)

// shared is the node of all tests that leave containerd running.
var shared *node.Node

var runtimes = flag.String("runtimes", node.PodRuntime+","+node.RuncRuntime, "runtimes to test")

var (
	group   = flag.String("group", "pod", "what a shim of the pod shim serves: pod or node")
	systemd = flag.Bool("systemd", false, "systemd makes the cgroups: on a machine of which it is PID 1")
	driver  = flag.String("driver", "native", "how shims drive runc where no runtime is named: native or command")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := knownRuntimes(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	n, err := node.Start(context.Background(), node.Config{Shim: grouped(*group), Systemd: *systemd})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start node:", err)
		return 1
	}
	shared = n
	status := m.Run()
	tail := n.LogTail()
	if err := n.Stop(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "after all tests:\n%v\n", err)
		status = 1
	}
	if status != 0 {
		fmt.Fprintf(os.Stderr, "containerd's log ends with:\n%s", tail)
	}
	return status
}

// runtimeCase is one runtime under test.
type runtimeCase struct {
	name    string // as containerd knows it
	handler string // as CRI knows it
	control bool   // it is there to compare with
	guest   bool   // containers have a kernel of their own
}

func allRuntimes() []runtimeCase {
	return []runtimeCase{
		{name: node.PodRuntime, handler: node.PodHandler},
		{name: node.VMRuntime, handler: node.VMHandler, guest: true},
		{name: node.RuncRuntime, handler: node.RuncHandler, control: true},
	}
}

// knownRuntimes refuses a name for which no test would run, and all would pass.
func knownRuntimes() error {
	for name := range strings.SplitSeq(*runtimes, ",") {
		if !slices.ContainsFunc(allRuntimes(), func(r runtimeCase) bool { return r.name == name }) {
			return fmt.Errorf("-runtimes names %q: there are %s, %s and %s", name, node.PodRuntime, node.VMRuntime, node.RuncRuntime)
		}
	}
	return nil
}

// eachRuntime runs a test for each runtime, named by it.
func eachRuntime(t *testing.T, test func(t *testing.T, r runtimeCase)) {
	t.Helper()
	for _, r := range allRuntimes() {
		if strings.Contains(*runtimes, r.name) {
			t.Run(r.handler, func(t *testing.T) { test(t, r) })
		}
	}
}

// known skips the rest of a test for the control, whose failure in it is known.
func (r runtimeCase) known(t *testing.T, reason string) {
	t.Helper()
	if r.control {
		t.Skipf("known failure of %s: %s", r.name, reason)
	}
}

// many is how many pods a test runs at once: a machine, emulated by the same two
// processors as all others, takes some seconds of one to boot.
func (r runtimeCase) many(n int) int {
	if r.guest {
		return 4
	}
	return n
}

// testTimeout bounds one test. It turns a hang into a failure; a machine of two cores needs a
// few seconds, an emulated one a minute.
const testTimeout = 2 * time.Minute

// testContext is a context in a node's namespace. It outlives the test's own, so
// that clean-up can use it.
func testContext(t *testing.T, n *node.Node) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), n.ID()), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// grouped is the configuration of shims that serve a pod or a node, by the driver
// that is tested.
func grouped(group string) string {
	return fmt.Sprintf("group = %q\n[runtime]\ndriver = %q\n", group, *driver)
}

// withSystemd has a shim's options say who makes the cgroups.
func withSystemd(options any) any {
	if !*systemd {
		return options
	}
	o := &runcoptions.Options{}
	if options != nil {
		o = proto.CloneOf(options.(*runcoptions.Options))
	}
	o.SystemdCgroup = true
	return o
}

// ownNode starts a node for a test that ends containerd.
func ownNode(t *testing.T, config node.Config) *node.Node {
	t.Helper()
	if config.Shim == "" {
		config.Shim = grouped(*group)
	}
	config.Systemd = *systemd
	n, err := node.Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tail := n.LogTail()
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("containerd's log ends with:\n%s", tail)
		}
	})
	return n
}

// identifier makes a container id from the test's name.
func identifier(t *testing.T) string {
	t.Helper()
	return strings.ToLower(strings.NewReplacer("/", "-", "_", "-", "#", "-").Replace(strings.TrimPrefix(t.Name(), "Test")))
}

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
