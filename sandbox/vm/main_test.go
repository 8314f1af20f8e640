// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"berth/sandbox/vm/image"
	"berth/sandbox/vm/image/build"
	"berth/sandbox/vm/jail"
	"berth/test/leak"
	"berth/test/shelter"
)

// workDir is removed at the end of the tests.
var workDir string

// guest is the image that the tests boot, built by the first that does.
var guest = sync.OnceValues(func() (image.Image, error) { return buildGuest(workDir) })

// errMissing is why there can be no machine here.
var errMissing = errors.New("this machine cannot boot guests")

// launcher is the argument by which the test binary is a machine's launcher.
const launcher = "enter-jail"

// owner is the argument by which it boots a machine and waits to be killed.
const owner = "own-machine"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case launcher:
			enterJail(os.Args[2])
		case owner:
			ownMachine(os.Args[2])
		}
	}
	os.Exit(shelter.Main(func() int { return run(m) }))
}

// run is in a mount namespace of its own: what it mounts goes with it, however it ends.
func run(m *testing.M) int {
	var err error
	if workDir, err = os.MkdirTemp("", "berth-vm-*"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := leak.Main(m)
	if err := os.RemoveAll(workDir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// enterJail is what a shim does as a launcher.
func enterJail(fd string) {
	n, err := strconv.Atoi(fd)
	if err == nil {
		err = jail.Enter(n)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

const (
	qemu      = "/usr/bin/qemu-system-x86_64"
	virtiofsd = "/usr/lib/qemu/virtiofsd"
)

// buildGuest makes the image from what `make setup guest` left, with an agent
// that does what tests tell it.
func buildGuest(dir string) (image.Image, error) {
	for _, path := range []string{qemu, virtiofsd} {
		if _, err := os.Stat(path); err != nil {
			return image.Image{}, fmt.Errorf("%w: no %s: make setup", errMissing, filepath.Base(path))
		}
	}
	kernels, err := filepath.Glob("../../.tools/kernel/linux-image-*")
	if err != nil || len(kernels) == 0 {
		return image.Image{}, fmt.Errorf("%w: no guest kernel: make guest", errMissing)
	}
	agent := filepath.Join(dir, "guestagent")
	cmd := exec.Command("go", "build", "-o", agent, "../../test/guestagent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return image.Image{}, fmt.Errorf("build the agent: %w: %s", err, out)
	}
	return build.Build(filepath.Join(dir, "guest"), build.Source{
		Root: kernels[len(kernels)-1], Agent: agent,
	})
}
