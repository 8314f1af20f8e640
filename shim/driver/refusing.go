// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"

	"berth/process"
	"berth/process/native"
	"berth/process/oci"
)

// refusing makes no containers, for a reason.
type refusing struct {
	*native.Driver
	why error
}

func (r refusing) Create(context.Context, *oci.CreateRequest) (*process.Process, error) {
	return nil, r.why
}
