package gpu

import (
	"berth/test/fakedriver"
	"fmt"
	"testing"
	"time"
)

func TestTmp(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2, NVSwitch: true, Compat32: true, MIG: [][]fakedriver.Instance{{{GI: 1, CI: 0}}}, Persistenced: true})
	_ = d
	inv := discover(t, r)
	fmt.Printf("%+v\n", inv)
	for range 3 {
		t0 := time.Now()
		f, err := LoadFiles(r, inv)
		fmt.Println(time.Since(t0), err)
		if err != nil {
			t.Fatal(err)
		}
		if false {
			fmt.Println(f)
		}
	}
	f, _ := LoadFiles(r, inv)
	for _, x := range f.Files {
		fmt.Printf("%+v\n", x)
	}
	for _, x := range f.Links {
		fmt.Printf("%+v\n", x)
	}
	fmt.Println(inv.ControlNodes(AllCapabilities))
	fmt.Println(inv.DeviceNodes(inv.Devices[0], AllCapabilities))
	fmt.Println(inv.InstanceNodes(inv.Devices[0], inv.Devices[0].MIG[0]))
	fmt.Println(Sockets(r))
}
