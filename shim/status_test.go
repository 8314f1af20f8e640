// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
)

// TestErrorStatus wants an error of several causes to reach a client with its
// class and as one sentence.
func TestErrorStatus(t *testing.T) {
	says := fmt.Errorf("line 7: %w: %w", errors.New("not known"), errdefs.ErrInvalidArgument)
	_, err := errorInterceptor(t.Context(), nil, nil, func(context.Context, func(any) error) (any, error) { return nil, says })
	got := errgrpc.ToNative(err)
	if want := "line 7: not known: invalid argument"; !errdefs.IsInvalidArgument(got) || got.Error() != want {
		t.Errorf("a client gets %q, want %q", got, want)
	}
	answer, err := errorInterceptor(t.Context(), nil, nil, func(context.Context, func(any) error) (any, error) { return 1, nil })
	if answer != 1 || err != nil {
		t.Errorf("answer %v, %v", answer, err)
	}
}

// A panic fails its call alone.
func TestPanicIsAnError(t *testing.T) {
	info := &ttrpc.UnaryServerInfo{FullMethod: "/containerd.task.v3.Task/State"}
	answer, err := errorInterceptor(t.Context(), nil, info, func(context.Context, func(any) error) (any, error) { panic("a test's") })
	got := errgrpc.ToNative(err)
	if answer != nil || !errdefs.IsInternal(got) || !strings.Contains(got.Error(), "State") || !strings.Contains(got.Error(), "a test's") {
		t.Errorf("a client gets %v, %q", answer, got)
	}
}
