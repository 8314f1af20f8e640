// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// env is the environment of the node's programs. TMPDIR names the node's directory,
// which also marks the processes as the node's.
func (n *Node) env() []string {
	return append(environ(n.checkout, filepath.Join(n.dir, "tmp")),
		"CONTAINERD_ADDRESS="+n.Address(),
		"CONTAINERD_NAMESPACE="+n.id,
		// ctr would say on every call that cgroup v1 is deprecated.
		"CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1",
		"CRI_CONFIG_FILE="+filepath.Join(n.dir, "crictl.yaml"),
		"BERTH_SHIM_CONFIG="+filepath.Join(n.dir, "shim.toml"),
		"BERTH_VM_CONFIG="+filepath.Join(n.dir, "vm.toml"),
	)
}

// Command prepares a program with the node's environment: ctr and crictl find the
// node without further flags. Start it with Node.Run or Node.StartCommand.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if file, err := n.program(name); err == nil {
		name = file
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = n.env()
	return cmd
}

// StartCommand starts a command in the node's network namespace, where crictl's
// streaming connections have to be made.
func (n *Node) StartCommand(cmd *exec.Cmd) error { return n.netns.do(cmd.Start) }

// Run runs a command in the node's network namespace and returns its stdout. An
// error holds its stderr, and is an *exec.ExitError for a status other than 0.
func (n *Node) Run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout = &stdout
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	err := n.StartCommand(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}

// Ctr runs ctr in the node's namespace and returns its stdout.
func (n *Node) Ctr(ctx context.Context, args ...string) (string, error) {
	return n.Run(n.Command(ctx, "ctr", args...))
}

// Crictl runs crictl and returns its stdout.
func (n *Node) Crictl(ctx context.Context, args ...string) (string, error) {
	return n.Run(n.Command(ctx, "crictl", args...))
}
