// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const (
	testUUID = "GPU-a0000000-1111-2222-3333-444455556666"
	testMIG  = "MIG-a0000000-1111-2222-3333-444455556666"
)

func good() List {
	return List{DriverVersion: "570.133.20", CUDAVersion: "12.8", Devices: []Device{
		{Index: 0, UUID: testUUID, BusID: "0000:3b:00.0", Minor: 3, Memory: 1 << 37, MIGMode: MIGEnabled,
			MIG: []MIG{{Index: 6, UUID: testMIG, GI: 13, CI: 0, Profile: "1g.18gb"}}},
		{Index: 1, Minor: -1, Error: &Error{Code: "ERROR_GPU_IS_LOST", Message: "GPU is lost"}},
	}}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*List)
		bad    string // in the error; "" if it is accepted
	}{
		{"as it is", func(*List) {}, ""},
		{"no GPU", func(l *List) { l.Devices = []Device{} }, ""},
		{"a long PCI domain", func(l *List) { l.Devices[0].BusID = "10000:3b:00.0" }, ""},
		{"no driver", func(l *List) { l.DriverVersion = "" }, "driver"},
		{"too many GPUs", func(l *List) { l.Devices = make([]Device, maxDevices+1) }, "257 devices"},
		{"no UUID", func(l *List) { l.Devices[0].UUID = "" }, "UUID"},
		{"a UUID not set up", func(l *List) { l.Devices[0].UUID = "GPU-????????-????-????-????-????????????" }, "UUID"},
		{"a UUID that is a path", func(l *List) { l.Devices[0].UUID = "GPU-../../../../../../../../../../../etc/xyz" }, "UUID"},
		{"a UUID in capitals", func(l *List) { l.Devices[0].UUID = strings.ToUpper(testUUID) }, "UUID"},
		{"no bus id", func(l *List) { l.Devices[0].BusID = "" }, "bus id"},
		{"a bus id that is a path", func(l *List) { l.Devices[0].BusID = "0000:../.." }, "bus id"},
		{"a bus id with an x", func(l *List) { l.Devices[0].BusID = "0000:3b:00.x" }, "bus id"},
		{"a UUID with an x", func(l *List) { l.Devices[0].UUID = testUUID[:len(testUUID)-1] + "x" }, "UUID"},
		{"a short bus id", func(l *List) { l.Devices[0].BusID = "000:3b:00.0" }, "bus id"},
		{"a longer bus id", func(l *List) { l.Devices[0].BusID = "000000000:3b:00.0" }, "bus id"},
		{"a bad bus id of a broken GPU", func(l *List) { l.Devices[1].BusID = "/" }, "bus id"},
		{"a negative index", func(l *List) { l.Devices[0].Index = -1 }, "index"},
		{"a negative minor", func(l *List) { l.Devices[0].Minor = -2 }, "minor"},
		{"a MIG mode", func(l *List) { l.Devices[0].MIGMode = "perhaps" }, "MIG mode"},
		{"a compute mode", func(l *List) { l.Devices[0].ComputeMode = "perhaps" }, "compute mode"},
		{"too many MIG devices", func(l *List) { l.Devices[0].MIG = make([]MIG, maxMIG+1) }, "65 MIG"},
		{"a MIG device without UUID", func(l *List) { l.Devices[0].MIG[0].UUID = "" }, "MIG device"},
		{"a MIG device with a GPU's UUID", func(l *List) { l.Devices[0].MIG[0].UUID = testUUID }, "MIG device"},
		{"a MIG device of no instance", func(l *List) { l.Devices[0].MIG[0].GI = -1 }, "MIG device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := good()
			c.change(&l)
			data, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(data)
			if c.bad == "" && (err != nil || !reflect.DeepEqual(*got, l)) {
				t.Errorf("%+v, %v; want %+v", got, err, l)
			}
			if c.bad != "" && (!errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), c.bad)) {
				t.Errorf("the error is %v, want one about %s", err, c.bad)
			}
		})
	}
}

func TestDecodeText(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"empty":               {"", false},
		"not JSON":            {"symbol lookup error: undefined symbol", false},
		"two documents":       {`{"driver_version":"1","devices":[]}{}`, false},
		"cut off":             {`{"driver_version":"1","devices":[`, false},
		"too long":            {`{"driver_version":"1","devices":[]}` + strings.Repeat(" ", maxBytes), false},
		"of a newer helper":   {`{"driver_version":"1","devices":[],"later":{"x":[1]}}`, true},
		"a number that is no": {`{"driver_version":"1","devices":[{"index":"0"}]}`, false},
	} {
		if l, err := Decode([]byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

func TestDecodeError(t *testing.T) {
	line := `{"error":{"code":"ERROR_IN_USE","symbol":"nvmlGpuInstanceDestroy","message":"In use by another client"}}` + "\n"
	for name, text := range map[string]string{"alone": line, "after the driver's words": "NVRM: hello\n" + line + "berth-gpu: a sentence\n"} {
		e := DecodeError([]byte(text))
		if e == nil || e.Code != "ERROR_IN_USE" || e.Symbol != "nvmlGpuInstanceDestroy" || !errors.Is(e, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s: %v", name, e)
		}
	}
	for _, text := range []string{"", "SIGSEGV", `{"error":{}}`, `{"error":null}`, "{}"} {
		if e := DecodeError([]byte(text)); e != nil {
			t.Errorf("%q was read as %v", text, e)
		}
	}
}

// What is decoded has harmless ids, and is read again.
func FuzzDecode(f *testing.F) {
	seed, err := json.Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"driver_version":"1","devices":[{"index":0,"minor":-1,"error":{"code":"E","message":""}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Decode(data)
		if err != nil {
			return
		}
		for _, d := range l.Devices {
			ids := d.UUID + d.BusID
			for _, m := range d.MIG {
				ids += m.UUID
			}
			if strings.Trim(ids, "GPUMI-:.0123456789abcdef") != "" || strings.Contains(ids, "..") {
				t.Errorf("ids %q", ids)
			}
		}
		again, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("%s is not read again: %v", again, err)
		}
	})
}
