// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"berth/gpu"
	"berth/gpu/ledger"
	"berth/gpu/nvml"
)

// metrics prints the MIG devices of this host in Prometheus' text format. What
// NVML does not say is missing from it, and is the command's error after that.
func (c *gpuCommand) metrics(args []string) error {
	f := flag.NewFlagSet("metrics", flag.ContinueOnError)
	output := f.String("output", "", "write to this `file`, in one step: for the textfile collector of node_exporter")
	if _, err := c.parse(f, args, "metrics [--output FILE]", 0); err != nil {
		return err
	}
	list, err := c.listMIG()
	up := err == nil
	if up {
		err = c.addSilent(list)
	}
	var refused []ledger.Refusal
	refusedErr := c.mig(func(m gpu.MIG) (err error) { refused, err = m.Refusals(); return err })
	text := exposition(list, up, refused)
	err = errors.Join(err, refusedErr)
	if *output == "" {
		_, writeErr := c.stdout.Write(text)
		return errors.Join(err, writeErr)
	}
	return errors.Join(err, writeWhole(*output, text))
}

// writeWhole replaces a file in one step: who reads it finds the old one or the
// new one.
func writeWhole(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// states are what a slice may be; all are told of, so that no series comes and
// goes.
var states = [...]string{"allocated", "orphaned", "making", "releasing", "zombie", "idle", "foreign"}

func stateOf(in nvml.MIGInstance) string {
	switch ledger.State(in.State) {
	case ledger.Ready:
		switch ledger.Life(in.Life) {
		case ledger.Served:
			return "allocated"
		case ledger.Gone:
			return "releasing"
		}
		return "orphaned"
	case ledger.Intent, ledger.GICreated, ledger.CIIntent:
		return "making"
	case ledger.Releasing:
		return "releasing"
	case ledger.Zombie:
		return "zombie"
	case ledger.Idle:
		return "idle"
	}
	return "foreign"
}

// exposition is the text, family by family (Prometheus' "text-based format").
func exposition(list *nvml.MIGList, up bool, refused []ledger.Refusal) []byte {
	m := new(families)
	m.family("berth_gpu_mig_up", "gauge", "Whether NVML could be asked.")
	m.sample(number(up))
	m.family("berth_gpu_mig_enabled", "gauge", "Whether a GPU is in MIG mode.")
	for _, g := range list.GPUs {
		if g.Mode == "" {
			continue // it does not tell
		}
		m.sample(number(g.Mode == nvml.MIGEnabled), "gpu", name(g))
	}
	m.family("berth_gpu_mig_readable", "gauge", "Whether what is in a GPU could be read.")
	for _, g := range list.GPUs {
		m.sample(number(g.Error == nil), "gpu", name(g))
	}
	m.family("berth_gpu_mig_slices", "gauge", "MIG devices by profile and what they are: allocated to a container, orphaned (its shim is gone, it lives), in the making, in release, zombie (in use when released), idle (kept for the next), foreign (not made by berth).")
	for _, g := range list.GPUs {
		for _, profile := range profiles(g) {
			for _, state := range states {
				n := 0
				for _, in := range g.Instances {
					if in.Profile == profile && stateOf(in) == state {
						n++
					}
				}
				m.sample(float64(n), "gpu", name(g), "profile", profile, "state", state)
			}
		}
	}
	m.family("berth_gpu_mig_free_slices", "gauge", "How many more MIG devices of a profile there is room for, if no other is made; 0 on a GPU that is left alone.")
	for _, g := range list.GPUs {
		for _, f := range g.Fits {
			m.sample(float64(f.Count), "gpu", name(g), "profile", f.Profile)
		}
	}
	m.family("berth_gpu_mig_memory_slices", "gauge", "Memory slices of a GPU by what is in them.")
	for _, g := range list.GPUs {
		if g.Mode == nvml.MIGEnabled && g.Error == nil {
			free := g.Slots
			for _, state := range states {
				n := 0
				for _, in := range g.Instances {
					if stateOf(in) == state {
						n += in.Place.Size
					}
				}
				free -= n
				m.sample(float64(n), "gpu", name(g), "state", state)
			}
			m.sample(float64(free), "gpu", name(g), "state", "free")
		}
	}
	m.family("berth_gpu_mig_torn_records", "gauge", "Records of the ledger that cannot be read.")
	for _, g := range list.GPUs {
		m.sample(float64(len(g.Torn)), "gpu", name(g))
	}
	m.family("berth_gpu_mig_refused_total", "counter", "Containers that got no MIG device since the last boot, by the profile and why: no room, held by others, mode off, busy for too long, a wrong request, the driver, the host.")
	for _, r := range refused {
		m.sample(float64(r.Count), "profile", r.Profile, "reason", r.Reason)
	}
	return m.text.Bytes()
}

// profiles are those of a GPU, and those that foreign instances have.
func profiles(g nvml.MIGGPU) (out []string) {
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	for _, f := range g.Fits {
		add(f.Profile)
	}
	for _, in := range g.Instances {
		add(in.Profile)
	}
	return out
}

// families is the text of metrics.
type families struct {
	text bytes.Buffer
	name string
}

func (f *families) family(name, kind, help string) {
	f.name = name
	fmt.Fprintf(&f.text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample adds one to the family; labels are names and values in turn.
func (f *families) sample(value float64, labels ...string) {
	var pairs []string
	for i := 0; i+1 < len(labels); i += 2 {
		escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(labels[i+1])
		pairs = append(pairs, labels[i]+`="`+escaped+`"`)
	}
	f.text.WriteString(f.name)
	if len(pairs) > 0 {
		f.text.WriteString("{" + strings.Join(pairs, ",") + "}")
	}
	f.text.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
