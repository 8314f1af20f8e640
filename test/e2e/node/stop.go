// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
)

// cleanTimeout bounds what Stop asks of containerd.
const cleanTimeout = 30 * time.Second

// LeakError names something that a node's users should have removed, or that the
// runtime left behind.
type LeakError struct {
	Kind string // container, process, mount, cgroup, file
	What string
}

func (e *LeakError) Error() string { return "left behind: " + e.Kind + " " + e.What }

// Stop ends the node and removes all of it. Its error joins a LeakError for each
// thing that was still there.
func (n *Node) Stop(ctx context.Context) error {
	var errs []error
	if n.daemon != nil && n.daemon.running() && n.client != nil {
		ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
		errs = append(errs, n.removeContainers(ctx))
		cancel()
	}
	errs = append(errs, n.Terminate(), n.dropTemplates(ctx))
	if n.netns != nil {
		n.netns.close()
		n.netns = nil
	}
	errs = append(errs, n.removeProcesses(), n.removeMounts(), n.removeUnits(), n.removeCgroups(), n.removeFiles(), n.unmountState())
	if n.log != nil {
		errs = append(errs, n.log.close())
	}
	if err := os.RemoveAll(n.dir); err != nil {
		errs = append(errs, fmt.Errorf("remove node directory: %w", err))
	}
	return errors.Join(errs...)
}

// dropTemplates ends what keeps templates of machines, which outlives shims.
func (n *Node) dropTemplates(ctx context.Context) error {
	if n.config.VM == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	_, err := n.Run(n.Command(ctx, "berth", "guest", "templates", "drop"))
	return err
}

// removeContainers removes the containers of every namespace; each is a leak.
func (n *Node) removeContainers(ctx context.Context) error {
	all, err := n.client.NamespaceService().List(ctx)
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	var errs []error
	for _, namespace := range all {
		ctx := namespaces.WithNamespace(ctx, namespace)
		containers, err := n.client.Containers(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("list containers: %w", err))
			continue
		}
		for _, c := range containers {
			errs = append(errs, &LeakError{"container", namespace + "/" + c.ID()}, remove(ctx, c))
		}
	}
	return errors.Join(errs...)
}

// remove kills a container's task and deletes both.
func remove(ctx context.Context, c containerd.Container) error {
	if task, err := c.Task(ctx, nil); err == nil {
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
			return fmt.Errorf("delete task %s: %w", c.ID(), err)
		}
	}
	if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		return fmt.Errorf("delete container %s: %w", c.ID(), err)
	}
	return nil
}

// removeMounts unmounts what is under the node's directory; each mount is a leak.
func (n *Node) removeMounts() error {
	mounts, err := mountsUnder(n.dir)
	if err != nil {
		return err
	}
	var errs []error
	// The last mounted lies on top.
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i] == n.StateDir() {
			continue // the node's own
		}
		errs = append(errs, &LeakError{"mount", mounts[i]})
		if err := unix.Unmount(mounts[i], unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", mounts[i], err))
		}
	}
	return errors.Join(errs...)
}

// unmountState undoes mountState.
func (n *Node) unmountState() error {
	err := unix.Unmount(n.StateDir(), unix.MNT_DETACH)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not mounted
		return nil
	}
	return fmt.Errorf("unmount the state directory: %w", err)
}
