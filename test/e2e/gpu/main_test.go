// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"

	"berth/test/e2e/node"
	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

var (
	shared *node.Node
	// built is where programs and images are made, config the shims'
	// configuration, home the machine that most tests use.
	built, config string
	home          *machine
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (status int) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "gpu tests:", err)
			status = 1
		}
	}
	ctx := context.Background()
	var err error
	if built, err = os.MkdirTemp("", "berth-gpu-test-"); err != nil {
		fail(err)
		return status
	}
	defer func() { fail(os.RemoveAll(built)) }()
	// A user namespace's root passes through it.
	fail(os.Chmod(built, 0o711))
	config = filepath.Join(built, "gpu.toml")
	if shared, err = node.Start(ctx, node.Config{Env: []string{"BERTH_GPU_CONFIG=" + config}}); err != nil {
		fail(err)
		return status
	}
	defer func() {
		tail := shared.LogTail()
		fail(shared.Stop(ctx))
		if status != 0 {
			fmt.Fprintf(os.Stderr, "containerd's log ends with:\n%s", tail)
		}
	}()
	if err := prepare(ctx); err != nil {
		fail(err)
		return status
	}
	defer func() { fail(home.close()) }()
	return m.Run()
}

// prepare builds the programs of the fake driver, the images, and the machine
// of most tests: four GPUs, of which the third is excluded, so that the fourth
// has index 2, and two MIG devices on that.
func prepare(ctx context.Context) error {
	if _, err := fakedriver.BuildSMI(built); err != nil {
		return err
	}
	if _, err := fakedriver.BuildMPS(built); err != nil {
		return err
	}
	if _, err := fakenvml.Build(built); err != nil {
		return err
	}
	if err := loadImages(ctx); err != nil {
		return err
	}
	var err error
	home, err = newMachine("home", fakedriver.Config{
		GPUs: 4, Excluded: []int{2}, MIG: [][]fakedriver.Instance{3: {{GI: 1, CI: 0}, {GI: 2, CI: 0}}},
	})
	return err
}

// testTimeout bounds one test. It turns a hang into a failure.
const testTimeout = time.Minute

// testContext is a context in the node's namespace. It outlives the test's own,
// so that clean-up can use it.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), shared.ID()), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// identifier makes a container id from the test's name.
func identifier(t *testing.T) string {
	t.Helper()
	name := strings.NewReplacer("/", "-", "_", "-", "'", "").Replace(strings.TrimPrefix(t.Name(), "Test"))
	return strings.Trim(strings.ToLower(name[max(0, len(name)-60):]), "-")
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

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
