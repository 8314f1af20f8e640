// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/configs"
)

// Bar keeps new containers away from a GPU until it was reset.
type Bar struct {
	BusID   string    `json:"bus_id"`
	Xid     int       `json:"xid"`
	Class   string    `json:"class"`
	Meaning string    `json:"meaning,omitempty"`
	Message string    `json:"message"`
	When    time.Time `json:"when"`
	// Boot and Driver are of when the bar was set. It ends with either.
	Boot   string `json:"boot"`
	Driver string `json:"driver"`
}

// NewBar is the bar that x calls for.
func NewBar(x Xid) Bar {
	return Bar{BusID: x.BusID, Xid: x.Number, Class: x.Class().String(), Meaning: x.Meaning(), Message: x.Message, When: x.At}
}

// Err is what a create on the barred GPU is refused with.
func (b Bar) Err() error {
	why := fmt.Sprintf("Xid %d", b.Xid)
	if text := strings.Trim(b.Meaning+": "+b.Message, ": "); text != "" {
		why += " (" + text + ")"
	}
	todo := "reset it with `nvidia-smi --gpu-reset -i " + b.BusID + "`, then"
	if b.Class == ClassMachine.String() {
		todo = "restart the machine or, once the GPU works again,"
	}
	return fmt.Errorf("GPU %s is barred from new containers since %s by %s; %s run `berth gpu clear %s`: %w",
		b.BusID, b.When.UTC().Format(time.RFC3339), why, todo, b.BusID, errdefs.ErrFailedPrecondition)
}

// SetBar bars a GPU. One that is barred already keeps the first reason: what
// follows an Xid is mostly its consequence.
func SetBar(r Roots, b Bar) error {
	path, err := barPath(r, b.BusID)
	if err != nil {
		return err
	}
	if old, err := Barred(r, b.BusID); err == nil && old != nil {
		return nil
	}
	if b.Boot, b.Driver, err = epoch(r); err != nil {
		return fmt.Errorf("bar GPU %s: %w", b.BusID, err)
	}
	b.BusID = filepath.Base(path)
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := writeBar(path, data); err != nil {
		return fmt.Errorf("bar GPU %s: %w", b.BusID, err)
	}
	return nil
}

// writeBar replaces the file in one step.
func writeBar(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".bar-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// Barred returns the bar of a GPU, or nil. A bar of another boot, or of a
// driver that was unloaded since, is none. Its file stays until the next
// SetBar: to remove it here could remove one that was set in between.
func Barred(r Roots, busID string) (*Bar, error) {
	path, err := barPath(r, busID)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var b Bar
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if err != nil {
		return nil, fmt.Errorf("whether GPU %s is barred cannot be read; run `berth gpu clear %[1]s` if the GPU is sound: %[2]w",
			filepath.Base(path), err)
	}
	boot, driver, err := epoch(r)
	if err != nil {
		return nil, fmt.Errorf("whether the bar of GPU %s still stands: %w", b.BusID, err)
	}
	if b.Boot != boot || b.Driver != driver {
		return nil, nil
	}
	return &b, nil
}

// ClearBar lifts a bar; errdefs.ErrNotFound if there is none.
func ClearBar(r Roots, busID string) error {
	path, err := barPath(r, busID)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("GPU %s is not barred: %w", filepath.Base(path), errdefs.ErrNotFound)
	}
	return err
}

// barPath is the file of a GPU's bar. Only a PCI address becomes a path.
func barPath(r Roots, busID string) (string, error) {
	id, ok := configs.BusID(busID)
	if !ok {
		return "", fmt.Errorf("%.64q is not the PCI address of a GPU, such as 0000:3b:00.0: %w", busID, errdefs.ErrInvalidArgument)
	}
	return r.run("barred", id), nil
}

// epoch names this boot, and this loading of the driver: its version, and the
// inode number of its directory in sysfs. The kernel gives each object a
// number of its own (kernfs_idr), and a module gets a new directory whenever
// it is loaded; the times of a directory are those of when it was looked up,
// and say nothing. Without a driver that part is empty.
func epoch(r Roots) (boot, driver string, err error) {
	id, err := os.ReadFile(r.proc("sys/kernel/random/boot_id"))
	if err != nil {
		return "", "", err
	}
	boot = strings.TrimSpace(string(id))
	var st unix.Stat_t
	err = unix.Stat(r.sys("module/nvidia"), &st)
	if errors.Is(err, fs.ErrNotExist) {
		return boot, "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("look for the driver in %s: %w", r.sys("module/nvidia"), err)
	}
	version, err := os.ReadFile(r.sys("module/nvidia/version"))
	if err != nil {
		return "", "", fmt.Errorf("read the driver's version: %w", err)
	}
	return boot, fmt.Sprintf("%s/%d", strings.TrimSpace(string(version)), st.Ino), nil
}
