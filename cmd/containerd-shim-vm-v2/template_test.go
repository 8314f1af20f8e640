// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"testing"
	"time"

	"berth/configs"
	"berth/process"
	"berth/sandbox/runtimetest"
	"berth/sandbox/template"
	"berth/sandbox/vm"
	"berth/sandbox/vm/image"
)

// What runs in a clone passes the test of all runtimes as well.
func TestClonedMachine(t *testing.T) {
	needGuest(t)
	cloned := conf
	cloned.Template, cloned.TemplateIdle = configs.CopiedTemplate, 60
	keeper(t, cloned)
	before := given(t, cloned)
	runtimetest.Run(t, newHost(cloned))
	if after := given(t, cloned); after == before {
		t.Errorf("no machine was made of the template: %d were before, %d are after", before, after)
	}
}

// keeper starts one as a shim does, and waits for its first template.
func keeper(t *testing.T, conf configs.VM) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(conf.Image)
	if err != nil {
		t.Fatal(err)
	}
	c := vm.Config{
		Image: img, MemoryMiB: conf.Class(conf.MemoryMiB), CPUs: conf.CPUs, QEMU: conf.QEMU, Launcher: []string{self, launchArg},
	}
	accel, err := accelerator(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	c.Accel = []vm.Accel{accel}
	q, err := template.For(t.Context(), c, conf.Template == configs.SharedTemplate)
	if err != nil {
		t.Fatal(err)
	}
	q.UIDBase, q.Idle, q.Wait = conf.UIDBase, conf.TemplateIdle, true
	dir := template.Dir(conf.RunDir)
	sup := process.NewSupervisor()
	defer sup.Close()
	p, err := template.Start(sup, []string{self, detachArg, dir}, nil, q)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	made, err := template.Get(t.Context(), dir, q)
	if err != nil {
		t.Fatal(err)
	}
	made.Close()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := template.End(ctx, dir); err != nil {
			t.Error(err)
		}
	})
}

func given(t *testing.T, conf configs.VM) (n int) {
	t.Helper()
	all, err := template.List(t.Context(), template.Dir(conf.RunDir), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		n += x.Given
	}
	return n
}
