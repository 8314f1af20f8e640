// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
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

const (
	qemu      = "/usr/bin/qemu-system-x86_64"
	virtiofsd = "/usr/lib/qemu/virtiofsd"
	// launcher is the argument by which the test binary is a machine's launcher.
	launcher = "enter-jail"
)

// workDir is removed at the end of the tests.
var workDir string

// guest is the image that the tests boot, with this checkout's agent.
var guest = sync.OnceValues(func() (image.Image, error) { return buildGuest(workDir) })

func TestMain(m *testing.M) {
	if err := other(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(shelter.Main(func() int { return run(m) }))
}

// run is in a mount namespace of its own: what it mounts goes with it, however it ends.
func run(m *testing.M) int {
	var err error
	if workDir, err = os.MkdirTemp("", "berth-template-*"); err != nil {
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

const (
	// detacher and keeperArg make the test binary what a shim is then.
	detacher  = "start-keeper"
	keeperArg = "keep-templates"
)

// other is what the test binary can be besides; it then ends.
func other(args []string) (err error) {
	switch {
	case len(args) == 3 && args[1] == launcher:
		var fd int
		if fd, err = strconv.Atoi(args[2]); err == nil {
			err = jail.Enter(fd)
		}
	case len(args) == 4 && args[1] == detacher:
		err = Detach([]string{args[0], keeperArg, args[2], args[3]}, args[2])
	case len(args) == 4 && args[1] == keeperArg:
		err = Keep(context.Background(), args[2], args[3])
	case len(args) > 2 && args[1] == "-name":
		err = beQEMU(args[2:])
	default:
		return nil
	}
	if err == nil {
		os.Exit(0)
	}
	return err
}

func buildGuest(dir string) (image.Image, error) {
	kernels, err := filepath.Glob("../../.tools/kernel/linux-image-*")
	if err != nil || len(kernels) == 0 {
		return image.Image{}, errors.New("no guest kernel: make guest")
	}
	agent := filepath.Join(dir, "berth-agent")
	cmd := exec.Command("go", "build", "-tags", "no_grpc,seccomp,runc_nocriu,netgo,osusergo", "-ldflags", "-s -w -extldflags -static",
		"-o", agent, "../../cmd/berth-agent") // as make build does
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return image.Image{}, fmt.Errorf("build the agent: %w: %s", err, out)
	}
	return build.Build(filepath.Join(dir, "guest"), build.Source{Root: kernels[len(kernels)-1], Agent: agent})
}
