// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// barRoots are roots with a boot id and a loaded driver.
func barRoots(t *testing.T) Roots {
	t.Helper()
	dir := t.TempDir()
	r := Roots{Driver: dir, Dev: dir + "/dev", Proc: dir + "/proc", Sys: dir + "/sys", Run: dir + "/run"}
	barFile(t, r.proc("sys/kernel/random/boot_id"), "e95d80e1\n")
	barFile(t, r.sys("module/nvidia/version"), "570.124.06\n")
	return r
}

func barFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const barBus = "0000:3b:00.0"

func barXid(number int) Bar {
	return NewBar(Xid{BusID: barBus, Number: number, Message: "text", At: time.Unix(1700000000, 0)})
}

func setBar(t *testing.T, r Roots, b Bar) {
	t.Helper()
	if err := SetBar(r, b); err != nil {
		t.Fatal(err)
	}
}

func isBarred(t *testing.T, r Roots) *Bar {
	t.Helper()
	b, err := Barred(r, barBus)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBar(t *testing.T) {
	r := barRoots(t)
	if isBarred(t, r) != nil {
		t.Error("barred at first")
	}
	setBar(t, r, barXid(95))
	setBar(t, r, barXid(79)) // what follows does not hide the cause
	b, err := Barred(r, "00000000:3B:00.0")
	if err != nil || b == nil || b.Xid != 95 || b.Class != "reset" || b.Boot != "e95d80e1" || b.Message != "text" {
		t.Fatalf("%+v, %v", b, err)
	}
	want := "GPU 0000:3b:00.0 is barred from new containers since 2023-11-14T22:13:20Z by Xid 95 (uncontained memory error: text); " +
		"reset it with `nvidia-smi --gpu-reset -i 0000:3b:00.0`, then run `berth gpu clear 0000:3b:00.0`"
	if err := b.Err(); !errdefs.IsFailedPrecondition(err) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	for path, mode := range map[string]os.FileMode{"barred": 0o700, "barred/" + barBus: 0o600} {
		if info, err := os.Stat(r.run(path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if left, _ := os.ReadDir(r.run("barred")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if err := ClearBar(r, barBus); err != nil || isBarred(t, r) != nil {
		t.Errorf("cleared: %v", err)
	}
	if err := ClearBar(r, barBus); !errdefs.IsNotFound(err) {
		t.Errorf("cleared twice: %v", err)
	}
}

func TestBarSaysRestart(t *testing.T) {
	if err := barXid(79).Err(); !strings.Contains(err.Error(), "by Xid 79 (the GPU has fallen off the bus: text); restart the machine") {
		t.Error(err)
	}
	if err := NewBar(Xid{BusID: barBus, Number: 999}).Err(); !strings.Contains(err.Error(), "by Xid 999; reset it") {
		t.Error(err)
	}
}

func TestBarEnds(t *testing.T) {
	reload := func(t *testing.T, r Roots) { // a new directory while the old one has its number
		if err := os.Rename(r.sys("module/nvidia"), r.sys("module/old")); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*testing.T, Roots){
		"with the boot":     func(t *testing.T, r Roots) { barFile(t, r.proc("sys/kernel/random/boot_id"), "another") },
		"with the driver":   func(t *testing.T, r Roots) { barFile(t, r.sys("module/nvidia/version"), "580") },
		"with its unload":   reload,
		"with its loading":  func(t *testing.T, r Roots) { reload(t, r); barFile(t, r.sys("module/nvidia/version"), "570.124.06\n") },
		"not with a reread": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := barRoots(t)
			setBar(t, r, barXid(95))
			if change == nil {
				if isBarred(t, r) == nil {
					t.Error("the bar ended")
				}
				return
			}
			change(t, r)
			if b := isBarred(t, r); b != nil {
				t.Errorf("the bar stands: %+v", b)
			}
			setBar(t, r, barXid(79))
			if b := isBarred(t, r); b == nil || b.Xid != 79 {
				t.Errorf("a new bar is %+v", b)
			}
		})
	}
}

// A bar that cannot be read, or judged, is not taken for none.
func TestBarIsKeptInDoubt(t *testing.T) {
	r := barRoots(t)
	barFile(t, r.run("barred", barBus), "{")
	if b, err := Barred(r, barBus); b != nil || err == nil || !strings.Contains(err.Error(), "berth gpu clear 0000:3b:00.0") {
		t.Errorf("torn: %+v, %v", b, err)
	}
	if err := ClearBar(r, barBus); err != nil {
		t.Error(err)
	}
	setBar(t, r, barXid(95))
	if err := os.Remove(r.proc("sys/kernel/random/boot_id")); err != nil {
		t.Fatal(err)
	}
	if b, err := Barred(r, barBus); b != nil || err == nil {
		t.Errorf("no boot id: %+v, %v", b, err)
	}
}

func TestBarPaths(t *testing.T) {
	r := barRoots(t)
	for _, id := range []string{"", ".", "..", "../../etc", "0000:3b:00.0/..", "0000:3b:00.0\n", "0000:3b:0/.0", "0000:3b:00.8",
		"0:3b:00.0", "000000000:3b:00.0", "0000:3b:00:00.0", "GPU-0000:3b:00.0", strings.Repeat("0", 1<<20)} {
		_, err := Barred(r, id)
		for _, err := range []error{err, SetBar(r, Bar{BusID: id}), ClearBar(r, id)} {
			if !errdefs.IsInvalidArgument(err) || len(err.Error()) > 300 {
				t.Errorf("%.40q: %v", id, err)
			}
		}
	}
	if _, err := os.Stat(r.Run); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
}
