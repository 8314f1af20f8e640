// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/test/leak"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

func TestRefused(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir  string
		cfg  Config
		want error
		says string
	}{
		"not empty":        {full, Config{}, errdefs.ErrFailedPrecondition, "precious"},
		"model":            {"", Config{Model: "b300"}, errdefs.ErrInvalidArgument, "h200"},
		"GPUs":             {"", Config{GPUs: 9}, errdefs.ErrInvalidArgument, "1 to 8"},
		"version":          {"", Config{Version: "../../x"}, errdefs.ErrInvalidArgument, "570.124.06"},
		"T4 with MIG":      {"", Config{Model: T4, MIG: [][]Instance{{{0, 0}}}}, errdefs.ErrInvalidArgument, "Tesla T4"},
		"T4 with NVSwitch": {"", Config{Model: T4, NVSwitch: true}, errdefs.ErrInvalidArgument, "NVSwitch"},
		"GPU instance":     {"", Config{MIG: [][]Instance{{{15, 0}}}}, errdefs.ErrInvalidArgument, "0 to 14"},
		"excluded":         {"", Config{GPUs: 2, Excluded: []int{2}}, errdefs.ErrInvalidArgument, "GPU 2 of 2"},
		"no such NVML":     {"", Config{NVML: "/nonexistent"}, os.ErrNotExist, "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.dir == "" {
				c.dir = filepath.Join(t.TempDir(), "new")
				needRoot(t)
			}
			_, err := Build(c.dir, c.cfg)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v that says %q", err, c.want, c.says)
			}
			if _, err := os.Stat(filepath.Join(full, "precious")); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(c.dir); c.dir != full && !os.IsNotExist(err) {
				t.Errorf("%s was left: %v", c.dir, err)
			}
		})
	}
}

// A directory that was there stays, empty.
func TestCloseKeepsDirectory(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	d, err := Build(dir, Config{Persistenced: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// On machines of several GPUs no order is like another, and excluded GPUs have no index.
func TestOrder(t *testing.T) {
	for gpus := 1; gpus <= 8; gpus++ {
		minors := make(map[int]bool)
		moved := false
		for i := range gpus {
			minors[minorOf(i, gpus)] = true
			moved = moved || minorOf(i, gpus) != i
		}
		if len(minors) != gpus || moved != (gpus > 1) {
			t.Errorf("%d GPUs: minors %v, in another order: %v", gpus, minors, moved)
		}
		for m := range minors {
			if m >= gpus {
				t.Errorf("%d GPUs: minor %d", gpus, m)
			}
		}
	}
	var got []string
	for _, g := range (Config{Model: A100, GPUs: 4, Excluded: []int{1}}).gpus(hardware{buses: [8]int{1, 2, 3, 4}}) {
		got = append(got, fmt.Sprint(g.Index, "/", g.Minor))
	}
	if fmt.Sprint(got) != "[0/2 -1/3 1/0 2/1]" {
		t.Errorf("index/minor %v", got)
	}
}

func TestNodes(t *testing.T) {
	d := build(t, Config{GPUs: 8, NVSwitch: true, IMEXChannels: 2, MIG: [][]Instance{1: {{9, 0}, {9, 2}, {2, NoCI}}}})
	// GPU 1 has minor 3: its table begins at 3+135*3.
	for path, want := range map[string]string{
		"nvidiactl": "195:255 666", "nvidia-modeset": "195:254 666", "nvidia0": "195:0 666", "nvidia7": "195:7 666",
		"nvidia-uvm": "511:0 666", "nvidia-uvm-tools": "511:1 666", "nvidia-nvlink": "510:0 666",
		"nvidia-nvswitchctl": "509:255 666", "nvidia-nvswitch3": "509:3 666", "nvidia-caps-imex-channels/channel1": "234:1 666",
		"nvidia-caps/nvidia-cap1": "508:1 400", "nvidia-caps/nvidia-cap2": "508:2 444",
		"nvidia-caps/nvidia-cap489": "508:489 444", "nvidia-caps/nvidia-cap490": "508:490 444",
		"nvidia-caps/nvidia-cap492": "508:492 444", "nvidia-caps/nvidia-cap426": "508:426 444",
		"dri/card0": "226:0 660", "dri/card8": "226:8 660", "dri/renderD135": "226:135 666",
		"dri/by-path/pci-0000:18:00.0-card": "226:1 660", "dri/by-path/pci-0000:18:00.0-render": "226:128 666",
	} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(d.Dev, path), &st); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got := fmt.Sprintf("%d:%d %o", unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Mode&0o777)
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || got != want {
			t.Errorf("%s: mode %o, %s, want %s", path, st.Mode, got, want)
		}
	}
	if got := names(t, filepath.Join(d.Dev, "nvidia-caps")); len(got) != 6 {
		t.Errorf("capability nodes %v", got)
	}
	if fd, err := unix.Open(filepath.Join(d.Dev, "nvidia0"), unix.O_RDWR|unix.O_CLOEXEC, 0); !errors.Is(err, unix.ENXIO) {
		unix.Close(fd)
		t.Skipf("no machine without a real driver, and with device nodes where tests have their files: open says %v", err)
	}
}

func TestSockets(t *testing.T) {
	d := build(t, Config{Persistenced: true, FabricManager: true})
	for _, name := range []string{"nvidia-persistenced", "nvidia-fabricmanager"} {
		path := filepath.Join(d.Root, "run", name, "socket")
		if i, err := os.Stat(path); err != nil || i.Mode().Type() != os.ModeSocket {
			t.Fatalf("%s: %v, %v", path, i, err)
		}
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd()))
		if err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		dir.Close()
	}
}

func BenchmarkBuild(b *testing.B) {
	needRoot(b)
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		d, err := Build(filepath.Join(dir, fmt.Sprint(i)), Config{GPUs: 8, NVSwitch: true})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
