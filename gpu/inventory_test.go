// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"berth/test/fakedriver"
)

func TestDiscover(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  fakedriver.Config
	}{
		{"one H200", fakedriver.Config{Model: fakedriver.H200}},
		{"eight H100 with the open module", fakedriver.Config{Model: fakedriver.H100, GPUs: 8, NVSwitch: true, OpenModule: true}},
		{"eight A100 in a PCI domain", fakedriver.Config{Model: fakedriver.A100, GPUs: 8, Domain: 0xa1b2, Version: "535.104.05"}},
		{"two T4", fakedriver.Config{Model: fakedriver.T4, GPUs: 2}},
		{"excluded", fakedriver.Config{Model: fakedriver.H100, GPUs: 8, Excluded: []int{0, 3}}},
		{"never opened", fakedriver.Config{GPUs: 2, UUIDUnknown: []int{1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, r := machine(t, tt.cfg)
			inv := discover(t, r)
			var want, excluded []Device
			for _, g := range d.GPUs {
				w := Device{Index: g.Index, UUID: g.UUID, BusID: g.BusID, Minor: g.Minor, Model: g.Name, Excluded: g.Excluded}
				if !g.Known {
					w.UUID = ""
				}
				if g.Excluded {
					excluded = append(excluded, w)
				} else {
					want = append(want, w)
				}
			}
			if want = append(want, excluded...); !reflect.DeepEqual(inv.Devices, want) {
				t.Errorf("got  %+v\nwant %+v", inv.Devices, want)
			}
			if inv.DriverVersion != d.Version || inv.NVSwitch != tt.cfg.NVSwitch {
				t.Errorf("version %q, switches %v", inv.DriverVersion, inv.NVSwitch)
			}
		})
	}
}

func TestDiscoverInstances(t *testing.T) {
	d, r := machine(t, fakedriver.Config{Model: fakedriver.A100, GPUs: 2, MIG: [][]fakedriver.Instance{
		nil, {{GI: 13, CI: 0}, {GI: 2, CI: 1}, {GI: 2, CI: 0}, {GI: 5, CI: fakedriver.NoCI}},
	}})
	inv := discover(t, r)
	want := []Instance{{GI: 2, CI: 0}, {GI: 2, CI: 1}, {GI: 13, CI: 0}}
	if inv.Devices[0].MIG != nil || !reflect.DeepEqual(inv.Devices[1].MIG, want) {
		t.Errorf("got %+v and %+v, want none and %+v", inv.Devices[0].MIG, inv.Devices[1].MIG, want)
	}
	if err := d.RemoveInstance(1, fakedriver.Instance{GI: 2, CI: fakedriver.NoCI}); err != nil {
		t.Fatal(err)
	}
	if got := discover(t, r).Devices[1].MIG; !reflect.DeepEqual(got, want[2:]) {
		t.Errorf("after a removal: %+v, want %+v", got, want[2:])
	}
}

// TestDiscoverWideDomain has a bus whose names do not sort as text.
func TestDiscoverWideDomain(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2, Domain: 0x2000})
	gpus := d.Proc + "/driver/nvidia/gpus/"
	if err := os.Rename(gpus+d.GPUs[0].BusID, gpus+"10000:01:00.0"); err != nil {
		t.Fatal(err)
	}
	got := discover(t, r).Devices
	if got[0].BusID != d.GPUs[1].BusID || got[1].BusID != "10000:01:00.0" || got[1].Index != 1 {
		t.Errorf("order is %+v", got)
	}
}

func TestDiscoverWhatIsMissing(t *testing.T) {
	t.Run("no driver", func(t *testing.T) {
		_, err := Discover(Roots{Proc: t.TempDir()})
		if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "modprobe nvidia") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("no GPU", func(t *testing.T) {
		d, r := machine(t, fakedriver.Config{})
		if err := os.RemoveAll(d.Proc + "/driver/nvidia/gpus"); err != nil {
			t.Fatal(err)
		}
		if inv := discover(t, r); inv.Devices == nil || len(inv.Devices) != 0 {
			t.Errorf("devices are %#v", inv.Devices)
		}
	})
	t.Run("version not understood", func(t *testing.T) {
		d, r := machine(t, fakedriver.Config{})
		write(t, d.Proc+"/driver/nvidia/version", "NVRM version: unknown\nGCC version: 12.3\n")
		if _, err := Discover(r); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("off the bus", func(t *testing.T) {
		d, r := machine(t, fakedriver.Config{GPUs: 2})
		write(t, d.Proc+"/driver/nvidia/gpus/"+d.GPUs[0].BusID+"/information", "")
		inv := discover(t, r)
		if len(inv.Devices) != 2 || inv.Devices[0].Minor != -1 || inv.Devices[1].Index != 1 {
			t.Fatalf("devices are %+v", inv.Devices)
		}
		if _, _, err := inv.DeviceNodes(inv.Devices[0], Compute); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "fallen off the bus") {
			t.Errorf("error is %v", err)
		}
	})
}
