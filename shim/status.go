// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/status"
)

// errorInterceptor is the one place where an error becomes a ttrpc status. It
// has a code and a text alone: of the details in which errgrpc repeats the
// classes, clients make lines below the text.
func errorInterceptor(ctx context.Context, unmarshal ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
	res, err := m(ctx, unmarshal)
	if err == nil {
		return res, nil
	}
	st := status.Convert(errgrpc.ToGRPC(err)).Proto()
	st.Details = nil
	return nil, status.ErrorProto(st)
}
