// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// record boots a machine and puts it on record.
func (r *rig) record(c Config, sharing bool) *Template {
	r.Helper()
	m, err := BootTemplate(r.ctx, c, sharing)
	if err != nil {
		r.Fatal(err)
	}
	r.closes(m)
	r.heard(m).do("write", "/tmp/before", "the template's")
	t, err := m.Record(r.ctx)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(t.Close)
	return t
}

// copyOf is a clone.
func (r *rig) copyOf(tpl *Template, c Config) *guestOf {
	r.Helper()
	m, err := Clone(r.ctx, c, tpl)
	if err != nil {
		r.Fatal(err)
	}
	r.closes(m)
	return r.clone(m)
}

// Clones begin where the template was, and what one does no other sees.
func TestClone(t *testing.T) {
	for name, sharing := range map[string]bool{"copy": false, "cow": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tpl := r.record(r.config(), sharing)
			t.Logf("the template holds %d MiB", tpl.Held()>>20)
			begin := time.Now()
			first := r.copyOf(tpl, r.config())
			restored := time.Since(begin)
			if got := first.do("read", "/tmp/before"); got != "the template's" {
				t.Errorf("the clone has %q", got)
			}
			t.Logf("restored after %v, first answer after %v", restored, time.Since(begin))
			logMemory(t, first.Pid())
			logHeld(t, first.Pid())
			second := r.copyOf(tpl, r.config())
			first.do("write", "/tmp/before", "the first's")
			first.do("eat", "16")
			for _, g := range []*guestOf{second, r.copyOf(tpl, r.config())} {
				if got := g.do("read", "/tmp/before"); got != "the template's" {
					t.Errorf("another clone has %q", got)
				}
			}
			cannotBeWritten(t, tpl, first.Pid())
		})
	}
}

// logMemory says what of a process's memory is its own.
func logMemory(t *testing.T, pid int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		for _, name := range []string{"Pss:", "Private_Dirty:", "Private_Clean:", "Pss_Shmem:", "Pss_Anon:", "Shared_Clean:"} {
			if strings.HasPrefix(line, name) {
				t.Log(strings.Join(strings.Fields(line), " "))
			}
		}
	}
}

// logHeld says how much there is of a clone's own memory file.
func logHeld(t *testing.T, pid int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())
		var st unix.Stat_t
		if link, err := os.Readlink(path); err == nil && strings.HasPrefix(link, "/memfd:") && unix.Stat(path, &st) == nil {
			t.Logf("%s: %d MiB", link, st.Blocks>>11)
		}
	}
}

// cannotBeWritten tries to change the template by any of the descriptors that a
// clone's QEMU has, as one could that has been broken into. One whose memory is a
// copy has none.
func cannotBeWritten(t *testing.T, tpl *Template, pid int) {
	t.Helper()
	want, err := tpl.Memory.Stat()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range entries {
		path := fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())
		if info, err := os.Stat(path); err != nil || !os.SameFile(info, want) {
			continue
		}
		found = true
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("writing to the template: %v", err)
		}
		if _, err := unix.Mmap(int(f.Fd()), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
			t.Errorf("mapping the template for writing: %v", err)
		}
		if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
			t.Errorf("cutting the template off: %v", err)
		}
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, page); !errors.Is(err, unix.EPERM) {
			t.Errorf("making a hole in the template: %v", err)
		}
	}
	if found != tpl.Sharing {
		t.Errorf("the clone has the template's memory: %v, want %v", found, tpl.Sharing)
	}
}

// A template has to be booted as one, and what differs among clones is not its.
func TestTemplateIsRefused(t *testing.T) {
	r := newRig(t)
	if _, err := r.up(r.config()).Record(r.ctx); err == nil || !strings.Contains(err.Error(), "not booted to be a template") {
		t.Errorf("of a machine like any other: %v", err)
	}
	c := r.config()
	c.Share = "/nonexistent"
	if _, err := BootTemplate(r.ctx, c, false); err == nil || !strings.Contains(err.Error(), "clones'") {
		t.Errorf("with a share: %v", err)
	}
	c = r.config()
	c.NICs = make([]NIC, ports)
	if _, err := Clone(r.ctx, c, nil); err == nil || !strings.Contains(err.Error(), "3 are possible") {
		t.Errorf("with more NICs than ports: %v", err)
	}
}

// Each thing that a guest could notice is part of the key.
func TestTemplateKey(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string {
		path := dir + "/" + name
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := Config{QEMU: file("qemu"), Accel: []Accel{TCG}, MemoryMiB: 128, CPUs: 1}
	c.Image.Kernel, c.Image.Initramfs = file("kernel"), file("initramfs")
	seen := make(map[string]string)
	for _, step := range []struct {
		what    string
		change  func()
		sharing bool
	}{
		{"nothing", func() {}, false}, {"sharing", func() {}, true}, {"memory", func() { c.MemoryMiB = 256 }, false},
		{"CPUs", func() { c.CPUs = 2 }, false}, {"another kernel", func() { c.Image.Kernel = file("kernel2") }, false},
		{"another initramfs", func() { c.Image.Initramfs = file("initramfs2") }, false},
		{"a QEMU that was replaced", func() {
			if err := os.Rename(file("new"), c.QEMU); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		step.change()
		key, err := TemplateKey(t.Context(), c, step.sharing)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", step.what, other)
		}
		seen[key] = step.what
		pod := c
		pod.ID, pod.Share, pod.Cgroup, pod.UID = "pod", "/share", "/cgroup", 1
		if again, err := TemplateKey(t.Context(), pod, step.sharing); again != key {
			t.Errorf("%s: a pod's own has another key (%v)", step.what, err)
		}
	}
}
