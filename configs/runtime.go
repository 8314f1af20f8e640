// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// Runtime says how the OCI runtime is to be driven for one container. The
// zero value is runc with its defaults. The fields are those of containerd's
// message containerd.runc.v1.Options.
type Runtime struct {
	// NoPivotRoot passes --no-pivot to create.
	NoPivotRoot bool
	// NoNewKeyring passes --no-new-keyring to create.
	NoNewKeyring bool
	// SystemdCgroup has the runtime make cgroups through systemd.
	SystemdCgroup bool
	// ShimCgroup is a cgroup that exists, as a path below the root of the
	// hierarchy, into which the shim itself is put.
	ShimCgroup string
	// BinaryName is the runtime: a path, or a name to be found in PATH.
	BinaryName string
	// Root is the absolute directory in which the runtime keeps its state.
	Root string
	// CriuImagePath and CriuWorkPath are directories for checkpoints.
	CriuImagePath string
	CriuWorkPath  string
	// IOUID and IOGID own the pipes given to the container as stdio.
	IOUID uint32
	IOGID uint32
}

// Validate says whether the options make sense by themselves; whether what
// they name exists is found out by who uses it. The error is
// errdefs.ErrInvalidArgument.
func (r Runtime) Validate() error {
	if r.Root != "" && !filepath.IsAbs(r.Root) {
		return fmt.Errorf("runtime option Root is %q: it must be an absolute path: %w", r.Root, errdefs.ErrInvalidArgument)
	}
	if r.ShimCgroup != "" && !filepath.IsLocal(trimSlashes(r.ShimCgroup)) {
		return fmt.Errorf("runtime option ShimCgroup is %q: it must name a cgroup below the root of the hierarchy: %w",
			r.ShimCgroup, errdefs.ErrInvalidArgument)
	}
	return nil
}

func trimSlashes(s string) string {
	for len(s) > 0 && s[0] == '/' {
		s = s[1:]
	}
	return s
}
