// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"strings"
	"testing"

	"berth/configs"
)

// The forms are those of open-gpu-kernel-modules and of reports in the field.
func TestParseXid(t *testing.T) {
	at := func(x Xid) Xid { x.Seq = 7; return x }
	for name, c := range map[string]struct {
		text string
		want Xid
	}{
		"a channel's": {"NVRM: Xid (PCI:0000:dc:00): 31, pid=1045242, name=pt_main_thread, Ch 00000008, intr 0",
			Xid{BusID: "0000:dc:00.0", GI: -1, CI: -1, Number: 31, Pid: 1045242, Name: "pt_main_thread", Message: "Ch 00000008, intr 0"}},
		"nobody's": {"NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
			Xid{BusID: "0000:3b:00.0", GI: -1, CI: -1, Number: 79, Message: "GPU has fallen off the bus."}},
		"unknown": {"NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
			Xid{BusID: "0000:05:00.0", GI: -1, CI: -1, Number: 79, Message: "GPU has fallen off the bus."}},
		"no name": {"NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off",
			Xid{BusID: "0000:01:00.0", GI: -1, CI: -1, Number: 79, Pid: 1234, Message: "GPU has fallen off"}},
		"no message": {"NVRM: Xid (PCI:0002:00:00): 119, pid=1582259, name=nvc:[driver]",
			Xid{BusID: "0002:00:00.0", GI: -1, CI: -1, Number: 119, Pid: 1582259, Name: "nvc:[driver]"}},
		"nothing": {"NVRM: Xid (PCI:0002:00:00): 119, ",
			Xid{BusID: "0002:00:00.0", GI: -1, CI: -1, Number: 119}},
		"old":         {"NVRM: Xid (0000:03:00): 14, Channel 00000001", Xid{BusID: "0000:03:00.0", GI: -1, CI: -1, Number: 14, Message: "Channel 00000001"}},
		"a function":  {"NVRM: Xid (PCI:0000:B3:1f.1): 79, x", Xid{BusID: "0000:b3:1f.1", GI: -1, CI: -1, Number: 79, Message: "x"}},
		"long domain": {"NVRM: Xid (PCI:00010000:01:00): 8, x", Xid{BusID: "10000:01:00.0", GI: -1, CI: -1, Number: 8, Message: "x"}},
		"a GPU instance": {"NVRM: Xid (PCI:0000:3b:00 GPU-I:09): 48, pid=2, name=p, DBE",
			Xid{BusID: "0000:3b:00.0", GI: 9, CI: -1, Number: 48, Pid: 2, Name: "p", Message: "DBE"}},
		"a compute instance": {"NVRM: Xid (PCI:0000:3b:00 GPU-I:13 GPU-CI:00): 31, pid=2, name=p, MMU",
			Xid{BusID: "0000:3b:00.0", GI: 13, CI: 0, Number: 31, Pid: 2, Name: "p", Message: "MMU"}},
		"a name with separators": {"NVRM: Xid (PCI:0000:3b:00): 31, pid=2, name=a, pid=1, x): , MMU",
			Xid{BusID: "0000:3b:00.0", GI: -1, CI: -1, Number: 31, Pid: 2, Name: "a", Message: "pid=1, x): , MMU"}},
		"a name that is not printable": {"NVRM: Xid (PCI:0000:3b:00): 31, pid=2, name=\x1b[2J\xff, MMU \r x",
			Xid{BusID: "0000:3b:00.0", GI: -1, CI: -1, Number: 31, Pid: 2, Name: "?[2J?", Message: "MMU ? x"}},
		"caused by": {"NVRM: Xid (PCI:0000:dc:00): 45, pid=9, name=python3, Ch 00000001 caused by previous Xid 149",
			Xid{BusID: "0000:dc:00.0", GI: -1, CI: -1, Number: 45, Pid: 9, Name: "python3", Message: "Ch 00000001 caused by previous Xid 149"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, record := range []string{"4,7,1234567,-;" + c.text + "\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n", "2,7,0,-,caller=T12;" + c.text} {
				if got, ok := ParseXid([]byte(record)); !ok || got != at(c.want) {
					t.Errorf("%q:\ngot  %+v, %t\nwant %+v", record, got, ok, at(c.want))
				}
			}
		})
	}
}

const xid79 = "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus."

func TestParseXidRefuses(t *testing.T) {
	for name, record := range map[string]string{
		"what a process wrote":        "12,7,1,-;" + xid79,
		"another facility":            "8,7,1,-;" + xid79,
		"no header":                   xid79,
		"a short header":              "4,7;" + xid79,
		"no number of the record":     "4,x,1,-;" + xid79,
		"a mark that is not at first": "4,7,1,-;oom_reaper: reaped process 1 (" + xid79,
		"a mark in a property":        "4,7,1,-;usb\n " + xid79,
		"a process name":              "6,7,1,-;NVRM: Xid (PCI:[12]: segfault at 0 ip 0 error 4): 79, x",
		"an NVSwitch":                 "4,7,1,-;nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal",
		"a path":                      "4,7,1,-;NVRM: Xid (PCI:0000:../..:00): 79, x",
		"no bus":                      "4,7,1,-;NVRM: Xid (PCI:): 79, x",
		"a signed number":             "4,7,1,-;NVRM: Xid (PCI:0000:3b:00): -79, x",
		"a huge number":               "4,7,1,-;NVRM: Xid (PCI:0000:3b:00): 4294967296, x",
		"no number":                   "4,7,1,-;NVRM: Xid (PCI:0000:3b:00): GPU",
		"an unknown instance":         "4,7,1,-;NVRM: Xid (PCI:0000:3b:00 GPU-X:1): 79, x",
		"empty":                       "",
	} {
		t.Run(name, func(t *testing.T) {
			if x, ok := ParseXid([]byte(record)); ok {
				t.Errorf("%q is %+v", record, x)
			}
		})
	}
}

func FuzzParseXid(f *testing.F) {
	f.Add([]byte("4,7,1,-;" + xid79))
	f.Add([]byte("4,7,1,-,caller=T1;NVRM: Xid (PCI:0000:3b:00 GPU-I:13 GPU-CI:00): 31, pid=2, name=p, MMU\n A=b\n"))
	f.Add([]byte("4,7,1,-;NVRM: Xid (0000:03:00.0): 79, pid='<unknown>', name=<unknown>, x"))
	f.Add([]byte("12,7,1,-;" + xid79))
	f.Fuzz(func(t *testing.T, record []byte) {
		x, ok := ParseXid(record)
		if !ok {
			return
		}
		if len(record) == 0 || record[0] < '0' || record[0] > '7' {
			t.Errorf("%q counts, which the kernel did not write", record)
		}
		if same, ok := configs.BusID(x.BusID); !ok || same != x.BusID || strings.ContainsAny(x.BusID, "/ ") {
			t.Errorf("bus id %q", x.BusID)
		}
		if len(x.Name) > maxXidName || len(x.Message) > maxXidMessage || x.Pid < 0 || x.Number < 0 || x.GI < -1 || x.CI < -1 {
			t.Errorf("%+v", x)
		}
		for _, c := range []byte(x.Name + x.Message) {
			if c < ' ' || c > '~' {
				t.Errorf("%q or %q is not printable", x.Name, x.Message)
			}
		}
		x.Class()
		XidEvent{Xid: x}.Encode()
	})
}
