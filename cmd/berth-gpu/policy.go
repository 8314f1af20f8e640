// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/containerd/errdefs"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// rule is the configuration's for a GPU; ok is whether it may be used.
func (t *transaction) rule(busID string) (rule wire.GPURule, ok bool) {
	if i := slices.IndexFunc(t.GPUs, func(r wire.GPURule) bool { return r.BusID == busID }); i >= 0 {
		return t.GPUs[i], true
	}
	return wire.GPURule{}, len(t.GPUs) == 0
}

// leftAlone says why a GPU is not to be used; it is empty if it may be.
func (t *transaction) leftAlone(g *slicedGPU) (string, error) {
	if _, ok := t.rule(g.BusID); !ok {
		return "the configuration does not list it", nil
	}
	d, err := t.dir(g.BusID)
	if err != nil {
		return "", err
	}
	switch by, err := d.HeldBy(); {
	case err != nil:
		return "who holds it cannot be told: " + err.Error(), nil
	case by != "":
		return "it is held by " + by, nil
	case t.ShareForeign || len(g.Instances) == 0:
		return "", nil
	}
	foreign, err := t.foreign(d, g)
	if err != nil || len(foreign) == 0 {
		return "", err
	}
	return "somebody else made " + strings.Join(foreign, ", ") + " on it", nil
}

// foreign are the instances of a GPU that are in no record.
func (t *transaction) foreign(d *ledger.Dir, g *slicedGPU) (out []string, err error) {
	live, records, _, err := t.view(d, g)
	for _, in := range live {
		if !ledger.Explained(in, records, t.now) {
			out = append(out, fmt.Sprintf("GPU instance %d at %d:%d", in.GI, in.Place.Start, in.Place.Size))
		}
	}
	return out, err
}

// view is a GPU's instances and records without its lock. Records are read before and after the
// instances, so that one that is made or destroyed meanwhile is not taken for a foreigner's.
func (t *transaction) view(d *ledger.Dir, g *slicedGPU) ([]ledger.Live, []*ledger.Record, []ledger.Torn, error) {
	before, _, err := d.Read()
	if err != nil {
		return nil, nil, nil, err
	}
	_, live, failed := g.live()
	if failed != nil {
		return nil, nil, nil, failed
	}
	after, torn, err := d.Read()
	return live, append(before, after...), torn, err
}

// refusal is why there is no slice, GPU by GPU, for the person who asked.
func (t *transaction) refusal(err error) error {
	if failed := (*wire.Error)(nil); errors.As(err, &failed) {
		return err
	}
	code, off, held := "ERROR_INSUFFICIENT_RESOURCES", 0, 0
	var why []string
	for _, g := range t.gpus {
		alone, err := t.leftAlone(g)
		switch {
		case err != nil:
			alone = err.Error()
		case alone != "":
			held++
		case !g.on:
			off++
			alone = fmt.Sprintf("MIG mode is off, `nvidia-smi -i %d -mig 1` turns it on", g.Index)
		default:
			alone = t.occupied(g)
		}
		why = append(why, fmt.Sprintf("GPU %d (%s): %s", g.Index, g.BusID, alone))
	}
	for _, failed := range t.broken {
		why = append(why, failed.Error())
	}
	if errdefs.IsInvalidArgument(err) || errdefs.IsNotFound(err) {
		code = wire.CodeBadRequest
	} else if errdefs.IsFailedPrecondition(err) { // none may be used
		code = wire.CodeMIGOff
		if off == 0 && held > 0 {
			code = wire.CodeHeld
		} else if len(t.gpus) == 0 {
			why = append(why, "no GPU that can do MIG")
		}
	}
	return &wire.Error{Code: code, Message: fmt.Sprintf("no slice for %s: %v: %s", t.wanted, err, strings.Join(why, "; "))}
}

func asked(asks []wire.MIGAsk) string {
	var out []string
	for _, a := range asks {
		if a.Profile == "" {
			a.Profile = fmt.Sprintf(">=%dMiB", a.Memory>>20)
		}
		out = append(out, fmt.Sprintf("%s:%d", a.Profile, a.Count))
	}
	return strings.Join(out, ",")
}

// occupied says who has what of a GPU.
func (t *transaction) occupied(g *slicedGPU) string {
	d, err := t.dir(g.BusID)
	if err != nil {
		return err.Error()
	}
	listed := t.list(d, g)
	var out []string
	for _, in := range listed.Instances {
		who := "somebody else's"
		if in.Owner != nil {
			who = "of " + in.Owner.Namespace + "/" + in.Owner.Container
			if in.Life != string(ledger.Served) {
				who += " (" + cmp.Or(in.Life, "which is gone") + ")"
			}
		}
		out = append(out, fmt.Sprintf("%s at %d:%d %s", in.Profile, in.Place.Start, in.Place.Size, who))
	}
	if len(out) == 0 {
		return "nothing is on it"
	}
	return strings.Join(out, ", ")
}

// turnOn turns MIG mode on where the configuration allows it, on Hopper and later (a reset that
// Ampere needs is not ours to do), and nothing runs. It says whether it did so for one.
func (t *transaction) turnOn() bool {
	for _, g := range t.gpus {
		rule, _ := t.rule(g.BusID)
		if why, err := t.leftAlone(g); g.on || !rule.AllowMode || err != nil || why != "" {
			continue
		}
		err := t.turnOnOne(g)
		if err == nil {
			return true
		}
		t.broken = append(t.broken, failure(err))
	}
	return false
}

func (t *transaction) turnOnOne(g *slicedGPU) (retErr error) {
	l, err := t.lock(t.ctx, g)
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, l.Unlock()) }()
	no := func(why string) error {
		return &wire.Error{Code: wire.CodeMIGOff, Message: fmt.Sprintf(
			"MIG mode of GPU %d (%s) is off and cannot be turned on: %s; then `nvidia-smi -i %d -mig 1` does it", g.Index, g.BusID, why, g.Index)}
	}
	arch, failed := get(g.lib, "nvmlDeviceGetArchitecture", g.handle.GetArchitecture)
	if failed != nil {
		return failed
	}
	if arch < nvml.DEVICE_ARCH_HOPPER || arch == nvml.DEVICE_ARCH_UNKNOWN {
		return no("before Hopper it takes a reset of the GPU, that an administrator plans")
	}
	processes, failed := get(g.lib, "nvmlDeviceGetComputeRunningProcesses_v3|nvmlDeviceGetComputeRunningProcesses_v2|nvmlDeviceGetComputeRunningProcesses",
		g.handle.GetComputeRunningProcesses)
	if failed != nil {
		return failed
	}
	if len(processes) > 0 {
		return no(fmt.Sprintf("process %d and %d others use it: end them first", processes[0].Pid, len(processes)-1))
	}
	var status nvml.Return
	failed = g.lib.call("nvmlDeviceSetMigMode", func() (r nvml.Return) {
		status, r = g.handle.SetMigMode(nvml.DEVICE_MIG_ENABLE)
		return r
	})
	if failed == nil {
		failed = g.lib.failure("nvmlDeviceSetMigMode", status)
	}
	if failed != nil { // what is pending would come with the next reset
		_ = g.lib.call("nvmlDeviceSetMigMode", func() (r nvml.Return) { _, r = g.handle.SetMigMode(nvml.DEVICE_MIG_DISABLE); return r })
		return no(failed.Error())
	}
	g.on = true
	return nil
}
