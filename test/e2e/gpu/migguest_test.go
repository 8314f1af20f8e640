// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

// guest is a pod of the CRI with its containers, or a container of ctr. It is
// driven by programs: containerd is killed meanwhile, and with it its clients.
type guest struct {
	name        string
	annotations map[string]string
	containers  []string // of a pod; none: it is a container of ctr
	hold        bool     // its processes have their slices' nodes open
	pod         string   // the CRI's id
}

// guest makes up the guest of a number.
func (s *storm) guest(i int) *guest {
	profiles := []string{"1g.18gb", "1g.18gb", "1g.18gb:2", "2g.35gb", "3g.71gb", ">=30GiB", "7g.141gb", "1g.35gb"}
	asks := func() string { return profiles[s.intn(len(profiles))] }
	g := &guest{name: fmt.Sprintf("storm-%d", i), hold: s.intn(2) == 0}
	switch i % 5 {
	case 0:
		g.annotations = map[string]string{"berth.dev/mig": asks()}
	case 1, 2:
		g.containers, g.annotations = []string{"a"}, map[string]string{"berth.dev/mig": asks()}
	case 3:
		g.containers, g.annotations = []string{"a", "b"}, map[string]string{"berth.dev/mig": asks(), "berth.dev/mig-share": "pod"}
	case 4:
		g.containers, g.annotations = []string{"a", "b"}, map[string]string{"berth.dev/mig.a": asks(), "berth.dev/mig.b": "1g.18gb"}
	}
	g.annotations["berth.dev/gpu-capabilities"] = "utility"
	return g
}

func (g *guest) command() []string {
	if g.hold {
		return []string{"/usr/bin/nvidia-smi", "--hold"}
	}
	return idle
}

// start starts a guest. It may fail since something was killed, and for want of
// room; what there is of it then is removed later, as of any other. Berth itself
// has no other reason.
func (s *storm) start(g *guest) {
	err := s.tryStart(g)
	if err == nil {
		return
	}
	why := err.Error()
	if full := strings.Contains(why, "no slice for") && strings.Contains(why, "resource exhausted"); strings.Contains(why, "hook gpu:") && !full && !strings.Contains(why, "berth-gpu ended with status 137") {
		s.Errorf("%s, %v: %s", g.name, g.annotations, why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed[g.name] = err
}

func (s *storm) tryStart(g *guest) error {
	if g.containers == nil {
		args := []string{"run", "--detach", "--snapshotter", shared.Snapshotter(), "--runtime", node.GPURuntime}
		for key, value := range g.annotations {
			args = append(args, "--annotation", key+"="+value)
		}
		_, err := shared.Ctr(s.ctx, append(append(args, image.Demo, g.name), g.command()...)...)
		return err
	}
	pod, err := shared.RunAnnotatedPod(s.ctx, g.name, node.GPUHandler, maps.Clone(g.annotations))
	if err != nil {
		return err
	}
	g.pod = pod.ID
	for _, name := range g.containers {
		if _, err := pod.Run(s.ctx, name, g.command()...); err != nil {
			return err
		}
	}
	return nil
}

// remove removes what there is of a guest, as far as that can be done now.
func (s *storm) remove(g *guest) {
	if g.containers == nil {
		_ = s.removeTask(g.name)
	} else if g.pod != "" {
		_ = s.removePod(g.pod)
	}
}

// removeTask removes a container of ctr. To force the deletion of its task is to
// kill it; the status of ctr then is that of the task, and ctr says nothing.
func (s *storm) removeTask(id string) error {
	_, err := shared.Ctr(s.ctx, "task", "delete", "--force", id)
	if err != nil && strings.Contains(err.Error(), "ctr: ") && !strings.Contains(err.Error(), "not found") {
		return err
	}
	_, err = shared.Ctr(s.ctx, "container", "delete", id)
	return err
}

func (s *storm) removePod(id string) error {
	_, stop := shared.Crictl(s.ctx, "stopp", id)
	_, remove := shared.Crictl(s.ctx, "rmp", "--force", id)
	return errors.Join(stop, remove)
}
