// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/gpu/nvml"
)

const (
	lockFile  = "lock"
	ownerFile = "owner"
	suffix    = ".json"
	tmpPrefix = ".new-"
	maxRecord = 64 << 10 // bytes; a record has 1 KiB
	// Us is what an owner file says of a GPU that is Berth's.
	Us = "berth"
)

// Dir is the ledger of one GPU. Anybody may read it; the holder of its lock writes.
type Dir struct {
	BusID string
	path  string
	// step is called after each change on disk; tests end the process there.
	step func(string)
}

// Torn is a file that is no record.
type Torn struct {
	ID  string // the file's name, without suffix
	Err error
}

// Root is the folder with a Dir for each GPU.
func Root(run string) string { return filepath.Join(run, "gpu", "mig") }

// Open looks at nothing: there is no directory as long as nobody has locked the GPU. step may be nil.
func Open(run, busID string, step func(string)) (*Dir, error) {
	if !nvml.IsBusID(busID) {
		return nil, fmt.Errorf("%.40q is no bus id of a GPU: %w", busID, errdefs.ErrInvalidArgument)
	}
	return &Dir{BusID: busID, path: filepath.Join(Root(run), busID), step: step}, nil
}

// GPUs are the bus ids of the GPUs that have a ledger.
func GPUs(run string) ([]string, error) {
	entries, err := os.ReadDir(Root(run))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && nvml.IsBusID(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Empty says that there is neither a record nor what is left of writing one.
func (d *Dir) Empty() (bool, error) {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != ownerFile {
			return false, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err == nil, err
}

// Read gives all records. Without the lock it is a moment's view, and the same slice may be in it
// with its last state or the one before.
func (d *Dir) Read() (records []*Record, torn []Torn, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the ledger of GPU %s: %w", d.BusID, err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || strings.HasPrefix(id, ".") {
			continue
		}
		r, err := d.read(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			torn = append(torn, Torn{ID: id, Err: err})
			continue
		}
		records = append(records, r)
	}
	return records, torn, nil
}

func (d *Dir) read(id string) (*Record, error) {
	data, err := readSmall(filepath.Join(d.path, id+suffix))
	if err != nil {
		return nil, err
	}
	r, err := decode(data)
	if err == nil && (r.ID != id || r.BusID != d.BusID) {
		err = fmt.Errorf("it is the record %s of GPU %s", r.ID, r.BusID)
	}
	return r, err
}

// HeldBy says who manages the GPU, if somebody wrote an owner file that names another than Us: a
// device plugin, a DRA driver, an administrator.
func (d *Dir) HeldBy() (string, error) {
	data, err := readSmall(filepath.Join(d.path, ownerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err // who it is cannot be told; it is not known to be us
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	switch name {
	case Us:
		return "", nil
	case "":
		name = "somebody without a name"
	}
	return strings.ToValidUTF8(name[:min(len(name), 100)], "?") + " (" + filepath.Join(d.path, ownerFile) + ")", nil
}

// readSmall reads a regular file without following a link or waiting for a FIFO.
func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(data) > maxRecord {
		err = fmt.Errorf("%s has more than %d bytes", path, maxRecord)
	}
	return data, err
}
