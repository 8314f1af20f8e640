// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"berth/gpu/nvml"
)

// MIGRequest begins a request: which ledger, and by which boot and loading of
// the driver its records are judged. timeout bounds the helper's waiting.
func (r Roots) MIGRequest(timeout time.Duration) (nvml.MIGRequest, error) {
	boot, driver, err := epoch(r)
	if err != nil {
		return nvml.MIGRequest{}, fmt.Errorf("name this boot and driver: %w", err)
	}
	version, load, _ := strings.Cut(driver, "/")
	if driver == "" { // it is no module, or built in: one loading a boot
		version, load = "none", "none"
	}
	return nvml.MIGRequest{Run: r.Run, BootID: boot, Driver: nvml.Driver{Version: version, Load: load},
		TimeoutMS: max(1, timeout.Milliseconds())}, nil
}

// AcquireMIG makes slices for an owner, or nothing. After an error there may
// be some all the same, if the helper was killed: ReleaseMIG takes them back.
func (h Helper) AcquireMIG(ctx context.Context, q nvml.MIGRequest) ([]nvml.Slice, error) {
	out, err := h.mig(ctx, "acquire", q)
	if err != nil {
		return nil, fmt.Errorf("make MIG slices: %w", err)
	}
	want := 0
	for _, ask := range q.Asks {
		want += ask.Count
	}
	a, err := nvml.DecodeMIGAcquired(out, want)
	if err != nil {
		return nil, err
	}
	return a.Slices, nil
}

// ReleaseMIG has all taken back that a group has, once it has no tenant. The
// helper sees to it until the request's time is over, with or without this
// process, which waits until ctx is done; then the error is errGoesOn. What is
// in use when the time is over is told as a Zombie, which is no error: a sweep
// destroys it later.
func (h Helper) ReleaseMIG(ctx context.Context, q nvml.MIGRequest) ([]nvml.MIGAction, error) {
	stdin, err := written(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stdin.Close() }()
	out, err := h.detached(ctx, append([]string{"mig", "release"}, h.where()...), stdin)
	return reported("release", out, err)
}

// SweepMIG puts right what dead owners and crashes left, or says what it would
// do if the request is for that.
func (h Helper) SweepMIG(ctx context.Context, q nvml.MIGRequest) ([]nvml.MIGAction, error) {
	out, err := h.mig(ctx, "sweep", q)
	return reported("sweep", out, err)
}

func reported(word string, out []byte, err error) ([]nvml.MIGAction, error) {
	if err != nil {
		return nil, fmt.Errorf("%s MIG slices: %w", word, err)
	}
	r, err := nvml.DecodeMIGReport(out)
	if err != nil {
		return nil, err
	}
	return r.Actions, nil
}

// ListMIG shows the GPUs that can do MIG, and whose the instances are.
func (h Helper) ListMIG(ctx context.Context, q nvml.MIGRequest) (*nvml.MIGList, error) {
	out, err := h.mig(ctx, "ls", q)
	if err != nil {
		return nil, fmt.Errorf("list MIG instances: %w", err)
	}
	return nvml.DecodeMIGList(out)
}

// mig runs one transaction. The helper is killed some time after its own
// deadline.
func (h Helper) mig(ctx context.Context, word string, q nvml.MIGRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(q.TimeoutMS)*time.Millisecond+helperTimeout)
	defer cancel()
	stdin, err := written(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stdin.Close() }()
	return h.run(ctx, append([]string{"mig", word}, h.where()...), stdin)
}

// written is a request as the helper reads it: a file in memory, so that nobody
// waits for a reader.
func written(q nvml.MIGRequest) (*os.File, error) {
	f, err := memory("request")
	if err != nil {
		return nil, err
	}
	err = json.NewEncoder(f).Encode(q)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write the request: %w", err), f.Close())
	}
	return f, nil
}
