// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
)

func mknod(t testing.TB, path string, major, minor uint32) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
}

// nodeNumbers are the nodes as "path major:minor", with ! after those that the
// host does not have.
func nodeNumbers(nodes []Node) (out []string) {
	for _, n := range nodes {
		s := fmt.Sprintf("%s %d:%d", n.Path, n.Major, n.Minor)
		if n.Host == "" {
			s += "!"
		}
		out = append(out, s)
	}
	return out
}

func TestControlNodes(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  fakedriver.Config
		c    Capability
		want []string
	}{
		{"utility", fakedriver.Config{}, Utility, []string{"/dev/nvidiactl 195:255"}},
		{"compute", fakedriver.Config{}, DefaultCapabilities, []string{"/dev/nvidiactl 195:255", "/dev/nvidia-uvm 511:0", "/dev/nvidia-uvm-tools 511:1"}},
		{"graphics", fakedriver.Config{}, Graphics, []string{"/dev/nvidiactl 195:255", "/dev/nvidia-modeset 195:254"}},
		{"graphics without the module", fakedriver.Config{NoModeset: true}, Graphics, []string{"/dev/nvidiactl 195:255"}},
		{"another major", fakedriver.Config{Majors: fakedriver.Majors{UVM: 498}}, Compute, []string{"/dev/nvidiactl 195:255", "/dev/nvidia-uvm 498:0", "/dev/nvidia-uvm-tools 498:1"}},
		{"an old driver", fakedriver.Config{Version: "535.104.05"}, Utility, []string{"/dev/nvidiactl 195:255"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, r := machine(t, tt.cfg)
			nodes, err := discover(t, r).ControlNodes(tt.c)
			if err != nil || !slices.Equal(nodeNumbers(nodes), tt.want) {
				t.Errorf("got  %v, %v\nwant %v", nodeNumbers(nodes), err, tt.want)
			}
			if nodes[0].Host != d.Dev+"/nvidiactl" || nodes[0].Mode != 0o666 {
				t.Errorf("node is %+v", nodes[0])
			}
		})
	}
}

func TestUnifiedMemoryUnloaded(t *testing.T) {
	_, r := machine(t, fakedriver.Config{UnloadedUVM: true})
	inv := discover(t, r)
	_, err := inv.ControlNodes(Compute)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "modprobe nvidia_uvm") {
		t.Errorf("error is %v", err)
	}
	if _, err := inv.ControlNodes(Utility); err != nil {
		t.Errorf("what does not need it fails: %v", err)
	}
}

func TestStaleNodes(t *testing.T) {
	for _, tt := range []struct {
		name, node   string
		major, minor uint32
		says         []string
		nodes        func(inv *Inventory) error
	}{
		{"unified memory's major is of another boot", "nvidia-uvm", 498, 0, []string{"498:0", "511:0", "stale"},
			func(inv *Inventory) error { _, err := inv.ControlNodes(Compute); return err }},
		{"the tools are the device itself", "nvidia-uvm-tools", 511, 0, []string{"511:0", "511:1"},
			func(inv *Inventory) error { _, err := inv.ControlNodes(Compute); return err }},
		{"the control node is a GPU", "nvidiactl", 195, 0, []string{"195:0", "195:255"},
			func(inv *Inventory) error { _, err := inv.ControlNodes(Utility); return err }},
		{"a GPU's node is another's", "nvidia0", 195, 1, []string{"195:1", "195:0"},
			func(inv *Inventory) error { _, _, err := inv.DeviceNodes(inv.Devices[0], Compute); return err }},
		{"a card's node is another's", "dri/card1", 226, 0, []string{"226:0", "226:1"},
			func(inv *Inventory) error { _, _, err := inv.DeviceNodes(inv.Devices[0], Graphics); return err }},
		{"an instance's", "nvidia-caps/nvidia-cap12", 500, 12, []string{"500:12", "508:12"},
			func(inv *Inventory) error {
				_, err := inv.InstanceNodes(inv.Devices[0], inv.Devices[0].MIG[0])
				return err
			}},
		{"a channel's", "nvidia-caps-imex-channels/channel0", 235, 0, []string{"235:0", "234:0"},
			func(inv *Inventory) error { _, err := inv.IMEXNode(0); return err }},
		{"a switch's", "nvidia-nvswitch0", 500, 0, []string{"500:0", "509:0"},
			func(inv *Inventory) error { _, err := inv.ExtraNodes(NVSwitch); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, r := machine(t, fakedriver.Config{NVSwitch: true, IMEXChannels: 1, MIG: [][]fakedriver.Instance{{{GI: 1, CI: 0}}}})
			inv := discover(t, r)
			if err := tt.nodes(inv); err != nil {
				t.Fatalf("before: %v", err)
			}
			mknod(t, d.Dev+"/"+tt.node, tt.major, tt.minor)
			err := tt.nodes(inv)
			if !errdefs.IsFailedPrecondition(err) {
				t.Fatalf("error is %v", err)
			}
			for _, s := range append(tt.says, d.Dev+"/"+tt.node) {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error does not say %q: %v", s, err)
				}
			}
		})
	}
}

func TestDeviceNodes(t *testing.T) {
	d, r := machine(t, fakedriver.Config{Model: fakedriver.A100, GPUs: 8})
	inv := discover(t, r)
	for i, g := range d.GPUs {
		nodes, links, err := inv.DeviceNodes(inv.Devices[i], DefaultCapabilities)
		want := []string{fmt.Sprintf("/dev/nvidia%d 195:%d", g.Minor, g.Minor)}
		if err != nil || links != nil || !slices.Equal(nodeNumbers(nodes), want) {
			t.Errorf("GPU %d: got %v, %v, %v, want %v", i, nodeNumbers(nodes), links, err, want)
		}
		nodes, links, err = inv.DeviceNodes(inv.Devices[i], Display)
		want = append(want, fmt.Sprintf("/dev/dri/card%d 226:%d", g.Card, g.Card), fmt.Sprintf("/dev/dri/renderD%d 226:%d", g.Render, g.Render))
		if err != nil || !slices.Equal(nodeNumbers(nodes), want) {
			t.Errorf("GPU %d: got %v, %v, want %v", i, nodeNumbers(nodes), err, want)
		}
		for _, l := range links {
			if target, err := os.Readlink(d.Root + l.Path); err != nil || target != l.Target {
				t.Errorf("GPU %d: link %+v, on the host it leads to %q, %v", i, l, target, err)
			}
		}
		if len(links) != 2 {
			t.Errorf("GPU %d: links %+v", i, links)
		}
	}
}

func TestDeviceNodesWithoutDRM(t *testing.T) {
	_, r := machine(t, fakedriver.Config{NoModeset: true})
	inv := discover(t, r)
	if nodes, links, err := inv.DeviceNodes(inv.Devices[0], Graphics); err != nil || len(nodes) != 1 || links != nil {
		t.Errorf("got %v, %v, %v", nodes, links, err)
	}
}

func TestInstanceNodes(t *testing.T) {
	in := fakedriver.Instance{GI: 9, CI: 2}
	d, r := machine(t, fakedriver.Config{GPUs: 2, MIG: [][]fakedriver.Instance{nil, {in}}})
	inv := discover(t, r)
	g := d.GPUs[1]
	gi, ci := g.AccessMinor(fakedriver.Instance{GI: 9, CI: fakedriver.NoCI}), g.AccessMinor(in)
	want := []string{fmt.Sprintf("/dev/nvidia%d 195:%d", g.Minor, g.Minor), fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d 508:%d", gi, gi),
		fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d 508:%d", ci, ci)}
	nodes, err := inv.InstanceNodes(inv.Devices[1], inv.Devices[1].MIG[0])
	if err != nil || !slices.Equal(nodeNumbers(nodes), want) {
		t.Errorf("got %v, %v, want %v", nodeNumbers(nodes), err, want)
	}

	// nvidia-modprobe has not made them: they can be made in the container all the same.
	if err := os.RemoveAll(d.Dev + "/nvidia-caps"); err != nil {
		t.Fatal(err)
	}
	nodes, err = inv.InstanceNodes(inv.Devices[1], inv.Devices[1].MIG[0])
	if err != nil || !slices.Equal(nodeNumbers(nodes), []string{want[0], want[1] + "!", want[2] + "!"}) || nodes[1].Mode != 0o444 {
		t.Errorf("without nodes on the host: %+v, %v", nodes, err)
	}

	if err := d.RemoveInstance(1, in); err != nil {
		t.Fatal(err)
	}
	if _, err := inv.InstanceNodes(inv.Devices[1], inv.Devices[1].MIG[0]); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "9/2") {
		t.Errorf("of an instance that is gone: %v", err)
	}
	if n, err := inv.CapNode("mig/monitor"); err != nil || n.Minor != 2 {
		t.Errorf("the monitor's is %+v, %v", n, err)
	}
}

// TestUnmadeNodes has the driver say who may use its nodes.
func TestUnmadeNodes(t *testing.T) {
	d, r := machine(t, fakedriver.Config{})
	inv := discover(t, r)
	write(t, d.Proc+"/driver/nvidia/params", "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 432\n")
	for _, name := range []string{"nvidia0", "nvidia-uvm"} {
		if err := os.Remove(d.Dev + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	nodes, _, err := inv.DeviceNodes(inv.Devices[0], Compute)
	want := Node{Path: "/dev/nvidia0", Major: 195, Minor: 0, Mode: 0o660, GID: 44}
	if err != nil || len(nodes) != 1 || nodes[0] != want {
		t.Errorf("got %+v, %v, want %+v", nodes, err, want)
	}
	nodes, err = inv.ControlNodes(Compute)
	if want := []string{"/dev/nvidiactl 195:255", "/dev/nvidia-uvm 511:0!", "/dev/nvidia-uvm-tools 511:1"}; err != nil || !slices.Equal(nodeNumbers(nodes), want) {
		t.Errorf("got %v, %v, want %v", nodeNumbers(nodes), err, want)
	}
}

func TestNode(t *testing.T) {
	d, r := machine(t, fakedriver.Config{})
	write(t, d.Dev+"/nvidia9", "a file")
	if err := os.Symlink("nvidia0", d.Dev+"/nvidia8"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		is         func(error) bool
		says       string
	}{
		{"missing", "/dev/nvidia7", isMissing, "nvidia-modprobe -c 7"},
		{"control missing", "/dev/nvidiactl", nil, ""},
		{"unified memory missing", "/dev/nvidia-uvm-none", isMissing, "nvidia-modprobe -u -c 0"},
		{"in a directory that is missing", "/dev/infiniband/uverbs0", isMissing, "modprobe -a ib_uverbs"},
		{"a file", "/dev/nvidia9", errdefs.IsFailedPrecondition, "no character device"},
		{"a symlink", "/dev/nvidia8", errdefs.IsFailedPrecondition, "no character device"},
		{"elsewhere", "/etc/passwd", errdefs.IsInvalidArgument, "/dev"},
		{"out of it", "/dev/../etc/passwd", errdefs.IsInvalidArgument, "/dev"},
		{"nothing", "/dev/", errdefs.IsInvalidArgument, "/dev"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.Node(tt.path)
			if tt.is == nil && err != nil {
				t.Errorf("error is %v", err)
			}
			if tt.is != nil && (err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error is %v, which should say %q", err, tt.says)
			}
		})
	}
}

func isMissing(err error) bool {
	return errdefs.IsFailedPrecondition(err) && errors.Is(err, fs.ErrNotExist)
}

func TestExtraNodes(t *testing.T) {
	d, r := machine(t, fakedriver.Config{Model: fakedriver.H100, NVSwitch: true, IMEXChannels: 2})
	for name, minor := range map[string]uint32{"nvidia-fs0": 0, "nvidia-fs1": 1} {
		mknod(t, d.Dev+"/"+name, 500, minor)
	}
	mknod(t, d.Dev+"/infiniband/uverbs0", 231, 192)
	mknod(t, d.Dev+"/infiniband/umad0", 231, 0)
	mknod(t, d.Dev+"/infiniband/rdma_cm", 10, 122)
	inv := discover(t, r)
	for _, tt := range []struct {
		extra Extra
		want  []string
		says  string
	}{
		{IMEX, []string{"/dev/nvidia-caps-imex-channels/channel0 234:0", "/dev/nvidia-caps-imex-channels/channel1 234:1"}, ""},
		{GDS, []string{"/dev/nvidia-fs0 500:0", "/dev/nvidia-fs1 500:1"}, ""},
		{MOFED, []string{"/dev/infiniband/uverbs0 231:192", "/dev/infiniband/rdma_cm 10:122"}, ""},
		{GDRCopy, nil, "modprobe gdrdrv"},
		{NVSwitch, []string{"/dev/nvidia-nvswitch0 509:0", "/dev/nvidia-nvswitch1 509:1", "/dev/nvidia-nvswitch2 509:2",
			"/dev/nvidia-nvswitch3 509:3", "/dev/nvidia-nvswitchctl 509:255"}, ""},
		{"a typo", nil, "a typo"},
	} {
		t.Run(string(tt.extra), func(t *testing.T) {
			nodes, err := inv.ExtraNodes(tt.extra)
			if !slices.Equal(nodeNumbers(nodes), tt.want) || (err != nil) != (tt.says != "") {
				t.Errorf("got %v, %v, want %v", nodeNumbers(nodes), err, tt.want)
			}
			if err != nil && !(errdefs.IsFailedPrecondition(err) && strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error is %v, which should say %q", err, tt.says)
			}
		})
	}
	if _, err := inv.IMEXNode(2); !isMissing(err) {
		t.Errorf("a channel that nobody made: %v", err)
	}
}
