// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/gpu/nvml"
)

// giveBackTimeout bounds the release after an acquire without answer. It has
// a time of its own, since the caller's may be over.
const giveBackTimeout = 10 * time.Second

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
// be some all the same, if the helper was killed: they are given back here,
// and failing that by the next sweep after the owner's end.
func (h Helper) AcquireMIG(ctx context.Context, q nvml.MIGRequest) ([]nvml.Slice, error) {
	out, err := h.mig(ctx, "acquire", q)
	var a *nvml.MIGAcquired
	if err == nil {
		want := 0
		for _, ask := range q.Asks {
			want += ask.Count
		}
		a, err = nvml.DecodeMIGAcquired(out, want)
	}
	if err != nil {
		if !madeNothing(err) {
			q.Asks, q.TimeoutMS = nil, giveBackTimeout.Milliseconds()
			_, undo := h.ReleaseMIG(context.WithoutCancel(ctx), q)
			err = errors.Join(err, undo)
		}
		return nil, fmt.Errorf("make MIG slices: %w", err)
	}
	return a.Slices, nil
}

// madeNothing says that the helper itself told that it refused.
func madeNothing(err error) bool {
	var said *nvml.Error
	return errors.As(err, &said) && slices.Contains([]string{nvml.CodeBadRequest, nvml.CodeMIGOff, nvml.CodeHeld, "ERROR_INSUFFICIENT_RESOURCES"}, said.Code)
}

// ReleaseMIG takes back all that an owner has. What is in use when the time is
// over is told as a Zombie, which is no error: a sweep destroys it later.
func (h Helper) ReleaseMIG(ctx context.Context, q nvml.MIGRequest) ([]nvml.MIGAction, error) {
	return h.report(ctx, "release", q)
}

// SweepMIG puts right what dead owners and crashes left, or says what it would
// do if the request is for that.
func (h Helper) SweepMIG(ctx context.Context, q nvml.MIGRequest) ([]nvml.MIGAction, error) {
	return h.report(ctx, "sweep", q)
}

func (h Helper) report(ctx context.Context, word string, q nvml.MIGRequest) ([]nvml.MIGAction, error) {
	out, err := h.mig(ctx, word, q)
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

// mig runs one transaction. The request is a file in memory, so that nobody
// waits for a reader; the helper is killed some time after its own deadline.
func (h Helper) mig(ctx context.Context, word string, q nvml.MIGRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(q.TimeoutMS)*time.Millisecond+helperTimeout)
	defer cancel()
	fd, err := unix.MemfdCreate("berth-gpu", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file for the request: %w", err)
	}
	stdin := os.NewFile(uintptr(fd), "request")
	defer func() { _ = stdin.Close() }()
	err = json.NewEncoder(stdin).Encode(q)
	if err == nil {
		_, err = stdin.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	return h.run(ctx, append([]string{"mig", word}, h.where()...), stdin)
}
