// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

const (
	envVisible  = "NVIDIA_VISIBLE_DEVICES"
	envIMEX     = "NVIDIA_IMEX_CHANNELS"
	envGDS      = "NVIDIA_GDS"
	envMOFED    = "NVIDIA_MOFED"
	envGDRCopy  = "NVIDIA_GDRCOPY"
	envNVSwitch = "NVIDIA_NVSWITCH"
)

// maxIMEX is the greatest number of an IMEX channel: device numbers have 20
// bits for a minor.
const maxIMEX = 1<<20 - 1

// getenv finds a variable as the container's process will. Of several entries
// the last one counts: libc's getenv would find the first, but runc hands on
// only the last of a name (libcontainer/env.go, prepareEnv).
func (in asking) getenv(name string) string {
	for _, entry := range slices.Backward(in.env) {
		if n, value, ok := strings.Cut(entry, "="); ok && n == name {
			return value
		}
	}
	return ""
}

// trusts says whether a variable counts that adds nodes beyond those of the
// GPUs. See Policy.
func (in asking) trusts(name string) bool {
	return slices.Contains(in.names, name) || slices.Contains(in.names, envVisible)
}

// enabled reads one that is a switch; NVIDIA too takes no word but this for on.
func (in asking) enabled(name string) bool {
	return in.trusts(name) && in.getenv(name) == "enabled"
}

func fromEnv(in asking) (*Request, error) {
	for _, name := range in.names {
		switch name {
		case envIMEX, envGDS, envMOFED, envGDRCopy, envNVSwitch:
			continue // may be named to be trusted, but asks for no GPU
		}
		if value := in.getenv(name); value != "" {
			return requestOf("environment "+name, value, numbersAreIndexes)
		}
	}
	return nil, nil
}

// complete reads what goes with a request for devices, whatever its source.
func (r *Request) complete(in asking) (err error) {
	if err := r.capabilities(in); err != nil {
		return err
	}
	if r.Require, err = requirements(in); err != nil {
		return err
	}
	for _, name := range [...]string{"NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES"} {
		if in.getenv(name) != "" {
			return fmt.Errorf("environment %s: access to the configuration of MIG is not given to containers; remove the variable: %w",
				name, errdefs.ErrInvalidArgument)
		}
	}
	r.GDS, r.MOFED = in.enabled(envGDS), in.enabled(envMOFED)
	r.GDRCopy, r.NVSwitch = in.enabled(envGDRCopy), in.enabled(envNVSwitch)
	return r.imex(in)
}

func (r *Request) capabilities(in asking) (err error) {
	source, value := "environment NVIDIA_DRIVER_CAPABILITIES", in.getenv("NVIDIA_DRIVER_CAPABILITIES")
	if key, annotated, ok := in.annotation("gpu-capabilities"); ok {
		source, value = "annotation "+boundedText(key), annotated
	}
	if len(value) > maxValue {
		err = tooLong(value, maxValue)
	} else {
		r.Capabilities, err = ParseCapabilities(value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// imex reads which channels are asked for, by mounts or else by environment.
func (r *Request) imex(in asking) error {
	err := in.requests(func(i int, rest string) error {
		channel, ok := strings.CutPrefix(rest, "imex/")
		if !ok {
			return nil
		}
		r.Remove = append(r.Remove, i)
		return r.channels(channel)
	})
	if err != nil || r.AllIMEX || r.IMEX != nil || !in.trusts(envIMEX) {
		return err
	}
	value := in.getenv(envIMEX)
	if value == "" {
		return nil
	}
	if err := r.channels(value); err != nil {
		return fmt.Errorf("environment %s: %w", envIMEX, err)
	}
	return nil
}

func (r *Request) channels(text string) error {
	if len(text) > maxValue {
		return tooLong(text, maxValue)
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.Trim(item, " ")
		n, ok := decimalID(item, maxIMEX)
		switch {
		case item == "":
		case item == "all":
			r.AllIMEX = true
		case !ok:
			return fmt.Errorf("%.64q is not an IMEX channel; known are all and numbers up to %d: %w", item, maxIMEX, errdefs.ErrInvalidArgument)
		case !slices.Contains(r.IMEX, n):
			r.IMEX = append(r.IMEX, n)
		}
	}
	if len(r.IMEX) > maxSelectors {
		return fmt.Errorf("%d IMEX channels are asked for; at most %d can be, or all: %w", len(r.IMEX), maxSelectors, errdefs.ErrInvalidArgument)
	}
	return nil
}
