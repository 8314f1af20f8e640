// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"errors"
	"fmt"
)

var (
	// ErrProtocol is part of every error that says what the other end did
	// against the protocol.
	ErrProtocol = errors.New("the other end broke the protocol")

	// ErrOver is why a session has ended that the host has shut down. The
	// transport is then its former owner's again, with nothing on the way.
	ErrOver = errors.New("the session is over")
)

// violation is the error of a peer that did what it may not.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}
