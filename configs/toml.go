// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
)

// ParseTOML reads runtime options as an operator writes them in the table
// [plugins.….runtimes.NAME.options] of containerd's configuration, which is
// how containerd hands them on to a shim that is not its own. Keys are matched
// to the letter. The error is errdefs.ErrInvalidArgument and says which key, or
// which line, is wrong.
func ParseTOML(text []byte) (Runtime, error) {
	refuse := func(err error) (Runtime, error) {
		return Runtime{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	var table map[string]any
	if err := toml.Unmarshal(text, &table); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ := at.Position()
			err = fmt.Errorf("line %d: %w", line, err)
		}
		return refuse(err)
	}
	var r Runtime
	known := r.fields()
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if err := known.set(key, table[key]); err != nil {
			return refuse(err)
		}
	}
	return r, nil
}

// field is one known key, and where its value goes: a *bool, *uint32 or
// *string, or nil for what is understood only as long as it is not set.
type field struct {
	name string
	into any
}

type fields []field

// fields are spelled as containerd's documentation (docs/cri/config.md) and
// `containerd config default` spell them.
func (r *Runtime) fields() fields {
	return fields{
		{"BinaryName", &r.BinaryName},
		{"CriuImagePath", &r.CriuImagePath},
		{"CriuWorkPath", &r.CriuWorkPath},
		{"IoGid", &r.IOGID},
		{"IoUid", &r.IOUID},
		{"NoNewKeyring", &r.NoNewKeyring},
		{"NoPivotRoot", &r.NoPivotRoot},
		{"Root", &r.Root},
		{"ShimCgroup", &r.ShimCgroup},
		{"SystemdCgroup", &r.SystemdCgroup},
		// In the defaults of some containerd, without effect there too.
		{"CriuPath", nil},
		{"TaskApiAddress", nil},
		{"TaskApiVersion", nil},
		// Says what the table holds; see set.
		{"TypeUrl", nil},
	}
}

// runcTypeURL is the TypeUrl that says what a table of these options holds.
const runcTypeURL = "containerd.runc.v1.Options"

func (fs fields) set(key string, value any) error {
	for _, f := range fs {
		if f.name == key {
			return f.set(value)
		}
	}
	var known []string
	for _, f := range fs {
		if f.into != nil {
			known = append(known, f.name)
		}
	}
	return fmt.Errorf("option %.64q is not known; known are %s", key, strings.Join(known, ", "))
}

func (f field) set(value any) error {
	ok := false
	switch into := f.into.(type) {
	case *bool:
		*into, ok = value.(bool)
		return wrongType(ok, f.name, "true or false")
	case *string:
		*into, ok = value.(string)
		return wrongType(ok, f.name, "a string")
	case *uint32:
		var n int64
		if n, ok = value.(int64); ok && n >= 0 && n <= 1<<32-1 {
			*into = uint32(n)
			return nil
		}
		return wrongType(false, f.name, "an integer from 0 to 4294967295")
	}
	if value == "" || value == int64(0) || f.name == "TypeUrl" && value == runcTypeURL {
		return nil
	}
	return fmt.Errorf("option %s is not supported; remove it, or leave it empty", f.name)
}

func wrongType(ok bool, name, want string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("option %s must be %s", name, want)
}
