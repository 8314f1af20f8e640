// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// mayUse says that the configuration lists a GPU, or none.
func (t *transaction) mayUse(busID string) bool {
	return len(t.GPUs) == 0 || slices.ContainsFunc(t.GPUs, func(r wire.GPURule) bool { return r.BusID == busID })
}

// leftAlone says why a GPU is not to be used; it is empty if it may be.
func (t *transaction) leftAlone(g *slicedGPU) (string, error) {
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

// foreign are the instances of a GPU that are in no record. As many as there are records that cannot be
// read may be of those, and tell nothing of a foreigner.
func (t *transaction) foreign(d *ledger.Dir, g *slicedGPU) (out []string, err error) {
	live, records, torn, err := t.view(d, g)
	for _, in := range live {
		if !ledger.Explained(in, records, t.now) {
			out = append(out, fmt.Sprintf("GPU instance %d at %d:%d", in.GI, in.Place.Start, in.Place.Size))
		}
	}
	if len(out) <= len(torn) {
		return nil, err
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
	occupants, failed := g.occupants()
	if failed != nil {
		return nil, nil, nil, failed
	}
	after, torn, err := d.Read()
	return lives(occupants), append(before, after...), torn, err
}

// refusal is why there is no slice, GPU by GPU, for the person who asked. Where the reason may be a GPU
// that could not be asked, or used, its error is the code.
func (t *transaction) refusal(err error) error {
	if failed := (*wire.Error)(nil); errors.As(err, &failed) && !errors.Is(err, errdefs.ErrResourceExhausted) {
		return err
	}
	out := &wire.Error{Code: "ERROR_INSUFFICIENT_RESOURCES"}
	if errdefs.IsInvalidArgument(err) || errdefs.IsNotFound(err) {
		out.Code = wire.CodeBadRequest
	}
	none := errors.Is(err, errNone)
	off, held := 0, 0
	var why []string
	for _, g := range t.gpus {
		reason, kind := t.notHere(g)
		switch {
		case kind == gpuFailed && (none && out.Symbol == "" || g.failed.Code == wire.CodeLocked):
			out.Code, out.Symbol = g.failed.Code, g.failed.Symbol
		case kind == gpuHeld:
			held++
		case kind == gpuOff:
			off++
		}
		why = append(why, g.String()+": "+reason)
	}
	if len(t.gpus) == 0 {
		why = append(why, "no GPU that can do MIG")
	}
	if none && held+off == len(t.gpus) {
		out.Code = wire.CodeMIGOff
		if off == 0 && held > 0 {
			out.Code = wire.CodeHeld
		}
	}
	out.Message = fmt.Sprintf("no slice for %s: %v: %s", t.wanted, err, strings.Join(why, "; "))
	return out
}

// gpuKind is in which way a GPU is of no use.
type gpuKind int

const (
	gpuFull gpuKind = iota
	gpuFailed
	gpuHeld
	gpuOff
)

// notHere says why there is no slice on a GPU.
func (t *transaction) notHere(g *slicedGPU) (string, gpuKind) {
	if g.failed != nil {
		return g.failed.Error(), gpuFailed
	}
	alone, err := t.leftAlone(g)
	switch {
	case err != nil:
		return err.Error(), gpuFull
	case alone != "":
		return alone, gpuHeld
	case !g.on:
		return fmt.Sprintf("MIG mode is off, `nvidia-smi -i %d -mig 1` turns it on", g.Index), gpuOff
	}
	return t.occupied(g), gpuFull
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
