// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package jail

const (
	auditArch    = 0
	foreignCalls = 1 << 31
)

var forbiddenHere []uint32
