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

	"berth/gpu/ledger"
)

// Claim is what one container was given. It lies below Roots.Run until the
// container is deleted, for `berth gpu`, and for whoever finishes the work of a
// shim that died.
type Claim struct {
	Namespace string    `json:"namespace"` // containerd's
	ID        string    `json:"id"`
	Bundle    string    `json:"bundle"`
	Created   time.Time `json:"created"`
	// Source and Asked are the request's.
	Source  string    `json:"source"`
	Asked   string    `json:"asked"`
	Devices []Holding `json:"devices,omitempty"`
	// Slices are the MIG devices that were made for the container.
	Slices *HeldSlices `json:"slices,omitempty"`
	// MPS is set where the container uses its pod's MPS daemon.
	MPS *HeldMPS `json:"mps,omitempty"`
	// Entries are the plan that was carried out.
	Entries []Entry `json:"entries,omitempty"`
}

// Holding is one GPU, or a MIG device of it, that a container holds.
type Holding struct {
	UUID  string    `json:"uuid"`
	BusID string    `json:"bus_id"`
	Index int       `json:"index"`
	MIG   *Instance `json:"mig,omitempty"`
}

// maxClaim bounds what is read back, in bytes. A claim has some 20 KiB.
const maxClaim = 1 << 20

// claimPath is the claim's file. Neither name has a colon in it: containerd
// checks both (pkg/identifiers). Nothing else may become a path.
func (r Roots) claimPath(namespace, id string) (string, error) {
	for _, name := range []string{namespace, id} {
		if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, ":/\x00\n") {
			return "", fmt.Errorf("%.80q is no name of a container or namespace: %w", name, errdefs.ErrInvalidArgument)
		}
	}
	return r.run("claims", namespace+":"+id+".json"), nil
}

// writeClaim replaces a container's claim in one step.
func (r Roots) writeClaim(c *Claim) error {
	path, err := r.claimPath(c.Namespace, c.ID)
	if err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of claims: %w", err)
	}
	scratch, err := ledger.Scratch()
	if err != nil {
		return fmt.Errorf("write claim: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), scratch+"*")
	if err != nil {
		return fmt.Errorf("write claim: %w", err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write claim: %w", err)
	}
	return nil
}

// removeClaim forgets a container. It may be called for one that has none.
func (r Roots) removeClaim(namespace, id string) error {
	path, err := r.claimPath(namespace, id)
	if err != nil {
		return nil // such a container has no claim
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove claim: %w", err)
	}
	return nil
}

// Claims are those of all containers of the host. One that cannot be read is
// passed over: it belongs to a create that is under way or to nobody. So is one
// whose bundle has gone, and with it whoever would have removed the claim.
func (r Roots) Claims() ([]Claim, error) {
	paths, err := filepath.Glob(r.run("claims", "*:*.json"))
	if err != nil {
		return nil, err
	}
	var out []Claim
	for _, path := range paths {
		if c, err := readClaim(path); err == nil && !c.abandoned() {
			out = append(out, *c)
		}
	}
	return out, nil
}

// abandoned is true once containerd has removed the bundle: nobody deletes the
// container any more.
func (c *Claim) abandoned() bool {
	_, err := os.Lstat(c.Bundle)
	return c.Bundle != "" && errors.Is(err, fs.ErrNotExist)
}

// forgetAbandoned removes the claims that nobody is left to remove.
func (r Roots) forgetAbandoned() error {
	paths, err := filepath.Glob(r.run("claims", "*:*.json"))
	for _, path := range paths {
		if c, unread := readClaim(path); unread == nil && c.abandoned() {
			err = errors.Join(err, r.removeClaim(c.Namespace, c.ID))
		}
	}
	return err
}

// Claim is that of one container, or errdefs.ErrNotFound.
func (r Roots) Claim(namespace, id string) (*Claim, error) {
	path, err := r.claimPath(namespace, id)
	if err != nil {
		return nil, err
	}
	c, err := readClaim(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("container %q of namespace %q holds no GPU: %w", id, namespace, errdefs.ErrNotFound)
	}
	return c, err
}

func readClaim(path string) (*Claim, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxClaim {
		return nil, fmt.Errorf("%s is no claim", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := new(Claim)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}
