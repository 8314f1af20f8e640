// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestBoot(t *testing.T) {
	r := newRig(t)
	begin := time.Now()
	g := r.up(r.config())
	t.Logf("the agent is heard after %v", time.Since(begin))
	if got := strings.TrimSpace(g.do("read", "/proc/sys/kernel/osrelease")); got != r.image.Release {
		t.Errorf("the guest's kernel is %s, want %s", got, r.image.Release)
	}
	t.Run("modules", func(t *testing.T) {
		loaded := g.do("read", "/proc/modules")
		for _, m := range r.image.Modules {
			if !strings.Contains("\n"+loaded, "\n"+m+" ") {
				t.Errorf("module %s is not loaded", m)
			}
		}
	})
	t.Run("file systems", func(t *testing.T) {
		mounts := g.do("read", "/proc/self/mounts")
		for _, want := range []string{
			"proc /proc proc", "sysfs /sys sysfs", "devtmpfs /dev devtmpfs", "cgroup2 /sys/fs/cgroup cgroup2",
			"tmpfs /run tmpfs", "tmpfs /tmp tmpfs", "tmpfs /dev/shm tmpfs", "devpts /dev/pts devpts", "mqueue /dev/mqueue mqueue",
		} {
			if !strings.Contains("\n"+mounts, "\n"+want+" ") {
				t.Errorf("%s is not mounted", want)
			}
		}
	})
	t.Run("loopback", func(t *testing.T) {
		if got := g.do("interfaces"); got != "up|loopback|running" {
			t.Errorf("the guest has the interfaces %q, want lo alone, and up", got)
		}
	})
	t.Run("scheduler", func(t *testing.T) {
		if mounts := g.do("read", "/proc/self/mounts"); strings.Contains(mounts, "debugfs") {
			t.Errorf("debugfs is still mounted: %s", mounts)
		}
		g.do("mount", "debugfs", "debugfs", "/run/debug")
		hurries := !strings.Contains(g.do("read", "/run/debug/sched/features"), "NO_WAKEUP_PREEMPTION")
		if hurries != (g.Accel() != TCG) {
			t.Errorf("that who is woken runs at once is %v, with %s", hurries, g.Accel())
		}
		g.do("unmount", "/run/debug")
	})
	t.Run("emulated CPU", func(t *testing.T) {
		if strings.Contains(g.do("read", "/proc/cpuinfo")+" ", " erms ") {
			t.Error("the guest copies memory by rep movsb, which is emulated byte by byte")
		}
	})
	t.Run("random numbers", func(t *testing.T) {
		if got := g.do("read", "/sys/class/misc/hw_random/rng_current"); !strings.HasPrefix(got, "virtio_rng") {
			t.Errorf("the source of entropy is %q", got)
		}
	})
}

func TestBootSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Config)
		says  string
	}{
		"no id":          {func(c *Config) { c.ID = "" }, "letters, digits"},
		"an id with ,":   {func(c *Config) { c.ID = "a,b" }, "letters, digits"},
		"little memory":  {func(c *Config) { c.MemoryMiB = 64 }, "96 are needed"},
		"no CPU":         {func(c *Config) { c.CPUs = 0 }, "1 to 255"},
		"root":           {func(c *Config) { c.UID = 0 }, "unprivileged user"},
		"no launcher":    {func(c *Config) { c.Launcher = nil }, "no launcher"},
		"no accelerator": {func(c *Config) { c.Accel = nil }, "names no accelerator"},
		"an unknown one": {func(c *Config) { c.Accel = []Accel{"xen"} }, `"xen" is not known`},
		"no QEMU":        {func(c *Config) { c.QEMU = "/usr/bin/no-qemu" }, "no such file"},
		"no kernel":      {func(c *Config) { c.Image.Kernel = "/no-kernel" }, "could not open kernel file"},
		"a bad share":    {func(c *Config) { c.Share = "/no-directory" }, "/no-directory"},
		"a taken cgroup": {func(c *Config) { c.Cgroup = "/" }, "already exists"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			conf := r.config()
			c.spoil(&conf)
			_, err := Boot(r.ctx, conf)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want an error with %q", err, c.says)
			}
			t.Log(err)
		})
	}
}

func TestBootCanBeGivenUp(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	if _, err := Boot(ctx, r.config()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Where KVM does not run guests nothing boots unless emulation is allowed.
func TestEmulationMustBeAllowed(t *testing.T) {
	r := newRig(t)
	c := r.config()
	c.Accel = []Accel{KVM}
	m, err := Boot(r.ctx, c)
	if err == nil {
		r.Cleanup(func() { _ = m.Close(context.Background()) })
		t.Skip("KVM runs guests here")
	}
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), `accel = ["kvm", "tcg"]`) {
		t.Errorf("got %v, want an error that tells how to allow emulation", err)
	}
	c.Accel = []Accel{KVM, TCG}
	if got := r.boot(c).Accel(); got != TCG {
		t.Errorf("%s runs the guest", got)
	}
}

func TestNoDescriptorIsLeftInTheGuestsMonitor(t *testing.T) {
	r := newRig(t)
	leaked, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	g := r.up(r.config())
	for _, fd := range descriptorsOf(t, g.Pid()) {
		if fd == "/" {
			t.Error("QEMU has a descriptor of this program")
		}
	}
}
