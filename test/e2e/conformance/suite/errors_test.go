// SPDX-License-Identifier: Apache-2.0

package suite

import "github.com/containerd/ttrpc"

// errClosed is what a call gets whose connection the shim closed.
var errClosed = ttrpc.ErrClosed
