// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/containerd/errdefs"

	"berth/configs"
)

// Env is what a shim program is made of, and the process it runs in.
type Env struct {
	// Args is the command line with the program's name first.
	Args []string
	// Environ is the environment as "key=value"; the shim that `start`
	// spawns inherits it.
	Environ []string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer

	// Name is the program's name, such as "containerd-shim-pod-v2".
	Name string
	// RuntimeType is what containerd calls it, such as "io.containerd.pod.v2".
	RuntimeType string
	// Version and Revision are those of the build.
	Version, Revision string

	// OwnMounts has `start` put the shim into a mount namespace of its own: it
	// sees what the host mounts, and what it mounts is seen by its children
	// alone and gone with the last of them, however they end.
	OwnMounts bool

	// Stay has who ran this process for `start` see it end with success, while it
	// lives on as the shim under another command line (package detach). nil has
	// `start` run the program again. It is not for OwnMounts.
	Stay func(args []string) error

	// Config reads the host's configuration of shims, for each `start`; nil is the
	// default one.
	Config func() (configs.Shim, error)
	// OnePod has each shim serve one pod, whatever the configuration says.
	OnePod bool

	// MountTypes and MountTransforms are what of a root file system's mounts the
	// shim does itself, so that containerd's mount manager does not.
	MountTypes, MountTransforms []string

	// Serve runs the shim until it is shut down.
	Serve func(context.Context, ServeConfig) error
	// Delete finishes what a shim that has gone left of one container. It
	// must be safe to call at any time and any number of times.
	Delete func(context.Context, DeleteConfig) (DeleteResult, error)
	// Features returns the OCI runtime's features as JSON, as the runtime
	// specification has them.
	Features func(context.Context, configs.Runtime) ([]byte, error)
}

// Identity is what containerd tells every shim process.
type Identity struct {
	// Namespace is containerd's. It is one path component.
	Namespace string
	// ID is the container that the process was run for. It is one path
	// component, but not checked any further.
	ID string
	// Bundle is the absolute path of that container's bundle.
	Bundle string
	// Address and TTRPCAddress are containerd's sockets. The latter is
	// where events go; it is empty if the caller wants none.
	Address, TTRPCAddress string
	// Debug asks for a verbose log.
	Debug bool
	// SocketPath is where the shim of the container's group listens.
	SocketPath string
}

// ServeConfig is what Env.Serve is given.
type ServeConfig struct {
	Identity
	// RuntimeType and Version are Env's.
	RuntimeType, Version string
	// Listener is the socket to serve. Who serves closes it.
	Listener Listener
	// Group is what the shim serves; empty is a pod.
	Group configs.Group
	// FollowLog, if set, has the log go to containerd by one of these bundles.
	FollowLog func(bundles []string)
	// HostMounts is the mount namespace that a shim with OwnMounts was started
	// from, for what is to outlive it; else nil. It stays open.
	HostMounts *os.File
}

// DeleteConfig is what Env.Delete is given.
type DeleteConfig struct{ Identity }

// DeleteResult is how the init of a container ended.
type DeleteResult struct {
	Pid        int
	ExitStatus int // exit code, or 128 plus the signal
	ExitedAt   time.Time
}

// Exit codes of Main.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// Main is the program. It returns its exit code.
func Main(env Env) int {
	ctx := context.Background()
	f, err := parseFlags(env.Args)
	switch {
	case errors.Is(err, errHelp):
		env.usage(env.Stdout)
		return exitOK
	case err != nil:
		fmt.Fprintf(env.Stderr, "%s: %v (see %s --help)\n", env.Name, err, env.Name)
		return exitUsage
	case f.version:
		env.printVersion()
		return exitOK
	case f.info:
		err = env.info(ctx)
	default:
		err = env.act(ctx, f)
	}
	if errors.Is(err, errByHand) {
		env.usage(env.Stderr)
		return exitUsage
	}
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", env.Name, err)
		return exitError
	}
	return exitOK
}

// errByHand tells that nobody but a person can have run the program this way.
var errByHand = errors.New("run by hand")

func (e *Env) act(ctx context.Context, f *flags) error {
	if f.action == "" && !f.named() {
		return errByHand
	}
	if err := f.check(); err != nil {
		return err
	}
	switch f.action {
	case "":
		return e.serveSpawned(ctx, f)
	case "start":
		shim, err := e.start(f)
		if shim == nil || err != nil {
			return err
		}
		return e.stay(ctx, shim)
	case "delete":
		return e.delete(ctx, f)
	}
	return fmt.Errorf("action %q is not known; it is start, delete, or none to serve: %w", f.action, errdefs.ErrInvalidArgument)
}

// lookup returns the last value of an environment variable.
func (e *Env) lookup(key string) string {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if kv := e.Environ[i]; len(kv) > len(key) && kv[len(key)] == '=' && kv[:len(key)] == key {
			return kv[len(key)+1:]
		}
	}
	return ""
}

// identity gathers what the flags and the environment say. The bundle is the
// working directory unless a flag names it.
func (e *Env) identity(f *flags) (Identity, error) {
	id := Identity{
		Namespace: f.namespace, ID: f.id, Bundle: f.bundle,
		Address: f.address, TTRPCAddress: e.lookup("TTRPC_ADDRESS"), Debug: f.debug,
	}
	if id.Bundle == "" {
		wd, err := os.Getwd()
		if err != nil {
			return id, fmt.Errorf("find the bundle: %w", err)
		}
		id.Bundle = wd
	}
	return id, nil
}

func (e *Env) printVersion() {
	fmt.Fprintf(e.Stdout, "%s:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n\n",
		e.Name, e.Version, e.Revision, runtime.Version())
}
