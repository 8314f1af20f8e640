// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/status"
)

// errorInterceptor is the one place where an error becomes a ttrpc status. It
// has a code and a text alone: of the details in which errgrpc repeats the
// classes, clients make lines below the text.
func errorInterceptor(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, m ttrpc.Method) (any, error) {
	res, err := survive(ctx, unmarshal, info, m)
	if err == nil {
		return res, nil
	}
	st := status.Convert(errgrpc.ToGRPC(err)).Proto()
	st.Details = nil
	return nil, status.ErrorProto(st)
}

// survive makes an error of a panic, so that it fails one call and not all
// containers that the process serves.
func survive(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, m ttrpc.Method) (_ any, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.L.WithField("call", info.FullMethod).Errorf("panic: %v\n%s", p, debug.Stack())
			err = fmt.Errorf("%s met a bug of the shim, whose log has the stack: %v: %w", info.FullMethod, p, errdefs.ErrInternal)
		}
	}()
	return m(ctx, unmarshal)
}
