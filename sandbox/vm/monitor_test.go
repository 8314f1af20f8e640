// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"berth/sandbox/vm/qmp"
)

// monitored is a machine of which there is a monitor alone. answer has what it
// says to a command, or nothing; %d is the command's number.
func monitored(t *testing.T, answer func(command string) string) *Machine {
	t.Helper()
	ours, file, err := connect("monitor")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		fmt.Fprintln(theirs, `{"QMP": {"version": {}, "capabilities": []}}`)
		for lines := bufio.NewScanner(theirs); lines.Scan(); {
			var c struct {
				Execute string
				ID      uint64
			}
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Error(err)
				return
			}
			said := `{"return": {}, "id": %d}`
			if c.Execute != "qmp_capabilities" {
				said = answer(c.Execute)
			}
			if said != "" {
				fmt.Fprintf(theirs, said+"\n", c.ID)
			}
		}
	})
	m := &Machine{id: "m", done: make(chan struct{}), disks: newDisks()}
	t.Cleanup(func() {
		_ = theirs.Close()
		serving.Wait()
	})
	if m.qmp, err = qmp.Dial(t.Context(), ours, m.event); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.qmp.Close)
	return m
}

const deleted = `{"event": "DEVICE_DELETED", "data": {"device": "disk1"}, "timestamp": {"seconds": 1, "microseconds": 1}}` + "\n"

// A disk whose going was cut short goes when it is asked for again.
func TestRemoveDiskAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked []string
	m := monitored(t, func(command string) string {
		asked = append(asked, command)
		switch n := len(asked); {
		case command == "device_del" && n == 1:
			return deleted + `{"return": {}, "id": %d}`
		case command == "device_del":
			return `{"error": {"class": "DeviceNotFound", "desc": "Device 'disk1' not found"}, "id": %d}`
		case command == "blockdev-del" && n == 2:
			cancel() // nobody waits any more
			return ""
		}
		return `{"return": {}, "id": %d}`
	})
	m.disks.add("s", &disk{gone: make(chan struct{})})
	if err := m.RemoveDisk(ctx, "s"); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut short: %v", err)
	}
	if err := m.RemoveDisk(t.Context(), "s"); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := m.RemoveDisk(t.Context(), "s"); !errdefs.IsNotFound(err) {
		t.Errorf("once more: %v", err)
	}
}

// A disk that nobody waited for is taken back, however far it has come.
func TestAddDiskGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked []string
	m := monitored(t, func(command string) string {
		asked = append(asked, command)
		switch command {
		case "add-fd":
			return `{"return": {"fdset-id": 3, "fd": 9}, "id": %d}`
		case "device_add":
			cancel()
			return ""
		case "device_del":
			return deleted + `{"return": {}, "id": %d}`
		}
		return `{"return": {}, "id": %d}`
	})
	image, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = image.Close() }()
	if err := m.AddDisk(ctx, Disk{Serial: "s", File: image}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if want := []string{"add-fd", "blockdev-add", "device_add", "device_del", "blockdev-del", "remove-fd"}; !slices.Equal(asked, want) {
		t.Errorf("the monitor is asked %v, want %v", asked, want)
	}
	if m.disks.get("s") != nil {
		t.Error("the machine believes that it has the disk")
	}
}
