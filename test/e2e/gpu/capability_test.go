// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestCapabilities wants nodes, libraries and programs for what is asked for,
// and none of the rest.
func TestCapabilities(t *testing.T) {
	home.use(t)
	second := home.GPUs[1]
	card := []string{fmt.Sprintf("dri/card%d 226:%[1]d", second.Card), fmt.Sprintf("dri/renderD%d 226:%[1]d", second.Render)}
	for name, c := range map[string]struct {
		nodes    []string
		has, not []string // parts of the list of libraries and programs
	}{
		"utility":  {[]string{"nvidiactl 195:255"}, []string{"libnvidia-ml.so.1", "bin/nvidia-smi"}, []string{"libcuda", "libnvidia-encode", "libGLX_nvidia"}},
		"compute":  {home.control(), []string{"libcuda.so.1", "libnvidia-ptxjitcompiler"}, []string{"libnvidia-ml", "bin/nvidia-smi", "libGLX_nvidia"}},
		"video":    {[]string{"nvidiactl 195:255"}, []string{"libnvidia-encode", "libnvcuvid"}, []string{"libcuda.so", "libnvidia-ml"}},
		"graphics": {append([]string{"nvidiactl 195:255", "nvidia-modeset 195:254"}, card...), []string{"libGLX_nvidia.so.0", "libnvidia-glcore"}, []string{"libcuda.so", "libnvidia-encode"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			c1 := start(ctx, t, request{gpu: "index:1", annotations: map[string]string{"berth.dev/gpu-capabilities": name}})
			list, _ := c1.exec(ctx, t, "sh", "-c", "ls /usr/local/nvidia/lib64/* /usr/bin/* 2>/dev/null")
			for _, want := range c.has {
				if !strings.Contains(list, want) {
					t.Errorf("there is no %s in:\n%s", want, list)
				}
			}
			for _, unwanted := range c.not {
				if strings.Contains(list, unwanted) {
					t.Errorf("there is %s in:\n%s", unwanted, list)
				}
			}
			// nvidia-smi is utility's: what the others see is told by a copy.
			copySMI(t, c1)
			text, code := c1.exec(ctx, t, "/tmp/look")
			wantDevices(t, view{text, code}, append(slices.Clone(c.nodes), gpuNode(second))...)
			if name != "graphics" {
				return
			}
			link, _ := c1.exec(ctx, t, "sh", "-c", "ls -l /dev/dri/by-path")
			if want := fmt.Sprintf("pci-%s-render -> ../renderD%d", second.BusID, second.Render); !strings.Contains(link, want) {
				t.Errorf("there is no link %s in:\n%s", want, link)
			}
		})
	}
}
