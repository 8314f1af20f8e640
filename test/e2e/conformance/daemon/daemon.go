// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Config says which programs a Daemon uses. All paths are absolute.
type Config struct {
	Shim    string   // the shim binary
	Runtime string   // the OCI runtime, passed as BinaryName; "" is the shim's own default
	Payload string   // the static program of package payload
	Dir     string   // an empty private directory, its path under 30 bytes (socket names)
	Env     []string // added to the shim's
	Name    string   // the containerd namespace and the parent cgroup: unique on the host
	// Guest is the directory of a guest image, for a shim whose containers are in
	// virtual machines; Runtime is then the guest's own. GuestOptions are lines
	// for its vm.toml.
	Guest, GuestOptions string
}

// Daemon is one pretended containerd. Its methods may be called concurrently.
type Daemon struct {
	Config
	Events *Recorder
}

// New makes the directories and starts to listen for events. The caller must
// Close the result.
func New(config Config) (*Daemon, error) {
	d := &Daemon{Config: config}
	for _, dir := range []string{"b", "s", "r", "share", "rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/share", "rootfs/tmp"} {
		if err := os.MkdirAll(filepath.Join(d.Dir, dir), 0o711); err != nil {
			return nil, fmt.Errorf("make the daemon's directory: %w", err)
		}
	}
	program, err := os.ReadFile(d.Payload)
	if err != nil {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	if err := os.WriteFile(filepath.Join(d.Dir, "rootfs/bin/payload"), program, 0o755); err != nil {
		return nil, fmt.Errorf("install payload: %w", err)
	}
	if d.Guest != "" {
		if err := d.writeVMConfig(); err != nil {
			return nil, err
		}
	}
	if d.Events, err = NewRecorder(filepath.Join(d.Dir, "e.sock")); err != nil {
		return nil, err
	}
	return d, nil
}

// Gate makes a FIFO that containers see as /share/NAME and returns its path on
// the host. For containers in a guest, whose kernel has FIFOs of its own, it is
// a file that is empty until the moment has come.
func (d *Daemon) Gate(name string) (string, error) {
	path := filepath.Join(d.Dir, "share", name)
	if d.Guest != "" {
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return "", fmt.Errorf("make gate %s: %w", name, err)
		}
		return path, nil
	}
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		return "", fmt.Errorf("make gate %s: %w", name, err)
	}
	return path, nil
}

// Close kills every process, unmounts every mount and removes every cgroup and
// file that the run left. It is a last resort: what it finds, Leftovers would
// have reported.
func (d *Daemon) Close() error {
	left, err := d.Leftovers()
	errs := []error{err}
	for _, pid := range left.Processes {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("kill %d: %w", pid, err))
		}
	}
	for _, pid := range left.Processes {
		errs = append(errs, AwaitGone(pid))
	}
	for i := len(left.Mounts) - 1; i >= 0; i-- {
		if err := syscall.Unmount(left.Mounts[i], syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", left.Mounts[i], err))
		}
	}
	errs = append(errs, removeCgroups(d.Name), d.Events.Close())
	if err := os.RemoveAll(d.Dir); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// command is one call of the shim binary with containerd's flags, working
// directory and environment.
func (d *Daemon) command(bundle *Bundle, action string, extra ...string) *exec.Cmd {
	args := []string{"-namespace", d.Name, "-address", filepath.Join(d.Dir, "grpc.sock"),
		"-publish-binary", "/bin/false", "-id", bundle.ID}
	if d.Guest != "" {
		args = append(args, "-debug") // how its machine came to be is there
	}
	args = append(append(args, extra...), action)
	cmd := exec.Command(d.Shim, args...)
	cmd.Dir = bundle.Dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "MAX_SHIM_VERSION=2",
		"TTRPC_ADDRESS="+d.Events.Path, "GRPC_ADDRESS="+filepath.Join(d.Dir, "grpc.sock"), "NAMESPACE="+d.Name)
	cmd.Env = append(cmd.Env, d.Env...)
	if d.Guest != "" {
		cmd.Env = append(cmd.Env, "BERTH_VM_CONFIG="+d.VMConfig())
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}
