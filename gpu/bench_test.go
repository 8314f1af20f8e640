// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"testing"

	"berth/test/fakedriver"
)

// BenchmarkDiscovery is what one container costs: the inventory, the cached
// files, and the nodes of all GPUs.
func BenchmarkDiscovery(b *testing.B) {
	for _, gpus := range []int{1, 8} {
		_, r := machine(b, fakedriver.Config{Model: fakedriver.H200, GPUs: gpus, NVSwitch: gpus == 8})
		inv := discover(b, r)
		if _, err := LoadFiles(r, inv); err != nil {
			b.Fatal(err)
		}
		run := func(name string, step func() error) {
			b.Run(fmt.Sprintf("%s/gpus=%d", name, gpus), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := step(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		look := func() error { _, err := Discover(r); return err }
		files := func() error { _, err := LoadFiles(r, inv); return err }
		nodes := func() error {
			if _, err := inv.ControlNodes(DefaultCapabilities); err != nil {
				return err
			}
			for _, d := range inv.Devices {
				if _, _, err := inv.DeviceNodes(d, DefaultCapabilities); err != nil {
					return err
				}
			}
			return nil
		}
		run("inventory", look)
		run("files", files)
		run("search", func() error { _, err := new(fileCache).search(r, inv.DriverVersion); return err })
		run("nodes", nodes)
		run("all", func() error { return first(look(), files(), nodes()) })
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
