// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// configFile is the spec's name in a bundle (OCI runtime-spec, bundle.md).
const configFile = "config.json"

// maxConfigSize bounds config.json, in bytes. containerd hands specs around in gRPC messages
// of at most 16 MiB (defaults.DefaultMaxRecvMsgSize), so no larger one can come from it;
// real ones have some tens of KiB.
const maxConfigSize = 16 << 20

// Spec is the OCI spec of one container while the hooks look at it. It is used by one
// goroutine.
type Spec struct {
	id, bundle string
	info       fs.FileInfo // of config.json when it was read
	raw        []byte      // config.json as it is on disk
	outline    outline
	oci        *specs.Spec // raw, decoded, and what the hooks made of it; nil until asked for
	changed    bool
	mounted    []Mounted
}

// outline is what most containers are judged by. It is decoded by itself because a whole
// specs.Spec costs a shim some 300 KiB for as long as it lives: encoding/json keeps what it
// has learnt of each of its types.
type outline struct {
	Annotations map[string]string `json:"annotations"`
	Root        *struct {
		Path string `json:"path"`
	} `json:"root"`
	Linux *struct {
		CgroupsPath string `json:"cgroupsPath"`
	} `json:"linux"`
}

// LoadSpec reads the spec of container id from its bundle. A missing file is
// errdefs.ErrNotFound; one that is too large, cut short or not an OCI spec is
// errdefs.ErrInvalidArgument.
func LoadSpec(bundle, id string) (*Spec, error) {
	s := &Spec{id: id, bundle: bundle}
	if err := s.read(); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(s.raw, &s.outline); err != nil {
		return nil, s.notASpec(err)
	}
	return s, nil
}

// ID is the container's id.
func (s *Spec) ID() string { return s.id }

// Bundle is the directory of config.json.
func (s *Spec) Bundle() string { return s.bundle }

// Annotations are the container's annotations, as config.json has them. They are not to be
// changed.
func (s *Spec) Annotations() map[string]string { return s.outline.Annotations }

// Config is config.json as it is on disk, for a hook that can tell from its
// bytes that it has no business with a container. It is not to be changed.
func (s *Spec) Config() []byte { return s.raw }

// CgroupsPath is linux.cgroupsPath of config.json, empty where there is none.
func (s *Spec) CgroupsPath() string {
	if s.outline.Linux == nil {
		return ""
	}
	return s.outline.Linux.CgroupsPath
}

// OCI is the spec as the hooks so far have left it. It is for reading: an edit that does not
// go through Edit is not written. The error, of a field with a wrong type, is
// errdefs.ErrInvalidArgument. It is decoded when first asked for: a hook that has no business
// with a container should find that out from its annotations.
func (s *Spec) OCI() (*specs.Spec, error) {
	if s.oci == nil {
		oci := new(specs.Spec)
		if err := json.Unmarshal(s.raw, oci); err != nil {
			return nil, s.notASpec(err)
		}
		s.oci = oci
	}
	return s.oci, nil
}

// Edit has f change the spec. The change is written once all hooks have had their turn.
func (s *Spec) Edit(f func(*specs.Spec) error) error {
	oci, err := s.OCI()
	if err != nil {
		return err
	}
	s.changed = true
	return f(oci)
}

func (s *Spec) path() string { return filepath.Join(s.bundle, configFile) }

func (s *Spec) read() error {
	// O_NONBLOCK: a FIFO in the place of the file must not hang the shim.
	f, err := os.OpenFile(s.path(), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no %s in bundle %s: is it the bundle of container %q? %w",
			configFile, s.bundle, s.id, errdefs.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("open spec: %w", err)
	}
	defer func() { _ = f.Close() }()
	if s.info, err = f.Stat(); err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	if !s.info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file but %s: %w", s.path(), s.info.Mode().Type(), errdefs.ErrInvalidArgument)
	}
	if size := s.info.Size(); size > maxConfigSize {
		return fmt.Errorf("%s has %d bytes: a spec may have at most %d: %w", s.path(), size, maxConfigSize, errdefs.ErrInvalidArgument)
	}
	s.raw, err = io.ReadAll(io.LimitReader(f, maxConfigSize))
	if err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	return nil
}

func (s *Spec) notASpec(err error) error {
	// Only the decoder tells an input that ends too early from other bad syntax.
	var whole json.RawMessage
	end := json.NewDecoder(bytes.NewReader(s.raw)).Decode(&whole)
	switch {
	case errors.Is(end, io.EOF):
		return fmt.Errorf("%s is empty: it must hold an OCI spec: %w", s.path(), errdefs.ErrInvalidArgument)
	case errors.Is(end, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s is cut short after %d bytes (%w): it must hold a whole OCI spec: %w",
			s.path(), len(s.raw), err, errdefs.ErrInvalidArgument)
	default:
		return fmt.Errorf("%s does not hold an OCI spec: %w: %w", s.path(), err, errdefs.ErrInvalidArgument)
	}
}
