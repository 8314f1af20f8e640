// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"berth/process"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// CLI is one OCI runtime as one container uses it. It has no state of its own: copies are
// equal, and calls may run at the same time.
type CLI struct {
	// Binary is the absolute path of the runtime; see Find.
	Binary string
	// Root is where the runtime keeps its state. Required but for Features.
	Root string
	// Dir is where calls that name no bundle run and keep their log while they do: the bundle
	// of the container that this CLI serves. When it is empty such calls run in "/" and their
	// errors come from the runtime's stderr.
	Dir string
	// SystemdCgroup has systemd make the cgroups.
	SystemdCgroup bool
	// Env is the runtime's whole environment; nil means DefaultPath, GOMAXPROCS=1 where it
	// runs no hooks, and nothing else. A runtime that reaches systemd over a user's bus needs XDG_RUNTIME_DIR and
	// DBUS_SESSION_BUS_ADDRESS.
	Env []string
	// Supervisor starts the runtime and adopts what it makes.
	Supervisor *process.Supervisor
}

// DefaultPath is where the runtime looks for its helpers (criu, newuidmap) by default.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Find returns the absolute path of the runtime called name: the path itself if it has a
// slash in it, else the first executable file of that name in path, a list as in $PATH.
// Relative directories are passed over. The error is errdefs.ErrNotFound.
func Find(name, path string) (string, error) {
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = candidates[:0]
		for _, dir := range filepath.SplitList(path) {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	for _, file := range candidates {
		var st unix.Stat_t
		if filepath.IsAbs(file) && unix.Stat(file, &st) == nil &&
			st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("OCI runtime %q not found as an executable file (looked for %s); install it or set BinaryName: %w",
		name, strings.Join(candidates, ", "), errdefs.ErrNotFound)
}

// Start lets the init of a created container go.
func (c *CLI) Start(ctx context.Context, id string) error {
	return c.simple(ctx, "start", id)
}

// Pause freezes a container.
func (c *CLI) Pause(ctx context.Context, id string) error {
	return c.simple(ctx, "pause", id)
}

// Resume thaws a container.
func (c *CLI) Resume(ctx context.Context, id string) error {
	return c.simple(ctx, "resume", id)
}

// Update applies an OCI LinuxResources object, given as JSON.
func (c *CLI) Update(ctx context.Context, id string, resources []byte) error {
	_, err := c.run(ctx, &call{verb: "update", args: []string{"--resources", "-", id}, stdin: resources})
	return err
}

// Delete removes what the runtime keeps of a container that has exited, or with force of one
// in any state, whose processes are killed. errdefs.ErrNotFound if it keeps nothing; with
// force some runtimes call that a success.
func (c *CLI) Delete(ctx context.Context, id string, force bool) error {
	if force {
		return c.simple(ctx, "delete", "--force", id)
	}
	return c.simple(ctx, "delete", id)
}

// Kill has the runtime send a signal to the init, or to all processes of the container. It
// is for containers that cannot be signalled through their processes or their cgroup.
func (c *CLI) Kill(ctx context.Context, id string, sig unix.Signal, all bool) error {
	args := []string{id, strconv.Itoa(int(sig))}
	if all {
		args = append([]string{"--all"}, args...)
	}
	return c.simple(ctx, "kill", args...)
}

// State asks the runtime what it knows of a container.
func (c *CLI) State(ctx context.Context, id string) (*State, error) {
	out, err := c.run(ctx, &call{verb: "state", args: []string{id}})
	if err != nil {
		return nil, err
	}
	var s State
	if err := json.Unmarshal(out, &s); err != nil {
		return nil, fmt.Errorf("decode answer of OCI runtime state: %w", err)
	}
	return &s, nil
}

func (c *CLI) simple(ctx context.Context, verb string, args ...string) error {
	_, err := c.run(ctx, &call{verb: verb, args: args})
	return err
}
