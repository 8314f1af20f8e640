// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Late is a namespace that was made with its machine and has nothing yet: `ctr run
// --cni`, and others, make the network between Create and Start.
type Late struct{ ns *os.File }

// NewLate notes a namespace, which stays the caller's.
func NewLate(namespace *os.File) (*Late, error) {
	fd, err := unix.FcntlInt(namespace.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keep the container's network namespace: %w", err)
	}
	return &Late{os.NewFile(uintptr(fd), namespace.Name())}, nil
}

// Take redirects what the namespace has got, which is for as many NICs as that at
// most; nil if it still has nothing. The redirects go with the namespace.
func (l *Late) Take(most int) (*Network, error) {
	n, err := handOver(l.ns, func(r Record) error {
		if n := len(r.Interfaces); n > most {
			return fmt.Errorf("it has got %d interfaces since the container was created, and %d are possible: have the network made before, as the CRI does: %w",
				n, most, errdefs.ErrFailedPrecondition)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("hand the container's network to its VM: %w", err)
	}
	if len(n.NICs) == 0 {
		return nil, nil
	}
	return n, nil
}

// Close lets go of the namespace.
func (l *Late) Close() error { return l.ns.Close() }
