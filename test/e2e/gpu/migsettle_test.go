// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
)

// settle removes all guests, containerd being there, and waits for the end of
// everybody who cleans up.
func (s *storm) settle() {
	s.removeAll()
	for busy := true; busy; {
		pids := slices.Concat(shims(s.T, "start"), shims(s.T, "delete"), shims(s.T, ""), helpers(s.T, s.m.Root))
		for _, pid := range pids {
			s.awaitEnd(pid)
		}
		busy = len(pids) > 0 && !s.Failed()
	}
	s.dropGarbage()
}

func (s *storm) awaitEnd(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended
	}
	defer func() { _ = unix.Close(fd) }()
	ended(s.T, fd)
}

// removeAll removes all guests that there still are, as a kubelet does: again and
// again. The CRI does not remove a container whose shim died before it has heard
// of that, and nothing tells a client when it has.
func (s *storm) removeAll() {
	const rounds = 30
	var failed error
	for range rounds {
		pods := strings.Fields(must(shared.Crictl(s.ctx, "pods", "--quiet"))(s.T))
		tasks := strings.Fields(must(shared.Ctr(s.ctx, "container", "list", "--quiet"))(s.T))
		if len(pods)+len(tasks) == 0 {
			return
		}
		failed = nil
		for _, id := range pods {
			failed = errors.Join(failed, s.removePod(id))
		}
		for _, id := range tasks {
			failed = errors.Join(failed, removeContainer(s.ctx, id))
		}
	}
	s.Errorf("after %d tries: %v", rounds, failed)
}

// dropGarbage removes what a killed containerd leaves of its own, and never looks
// at again: bundles that it was removing, whose names begin with a dot; what it
// had made of a pod before it wrote the pod down; sockets of shims that it did
// not come to know, and beside them events that it did not take.
func (s *storm) dropGarbage() {
	ctx := namespaces.WithNamespace(s.ctx, "k8s.io")
	for _, c := range must(shared.Client().Containers(ctx))(s.T) {
		s.Logf("containerd was killed, and left the container %s", c.ID())
		if err := removeContainer(ctx, c.ID()); err != nil {
			s.Error(err)
		}
	}
	for _, pattern := range []string{"state/io.containerd.runtime.v2.task/*/.*", "state/io.containerd.grpc.v1.cri/*/*", "s/*"} {
		for _, half := range must(filepath.Glob(filepath.Join(shared.Dir(), pattern)))(s.T) {
			s.Logf("containerd was killed, and left %s", half)
			for _, mount := range []string{half, filepath.Join(half, "shm")} {
				if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT && err != unix.ENOTDIR {
					s.Error(err)
				}
			}
			if err := os.RemoveAll(half); err != nil {
				s.Error(err)
			}
		}
	}
}
