// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package detach

// Stay returns nil: there is no C to fork in.
func Stay() func(args []string) error { return nil }
