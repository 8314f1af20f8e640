// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu"
	"berth/hooks"
)

// explanation is what `berth gpu explain` prints.
type explanation struct {
	Container string        `json:"container,omitempty"`
	Bundle    string        `json:"bundle"`
	Injected  bool          `json:"injected"` // or it only would be
	Source    string        `json:"source,omitempty"`
	Asked     string        `json:"asked,omitempty"`
	Devices   []gpu.Holding `json:"devices,omitempty"`
	Entries   []gpu.Entry   `json:"entries,omitempty"`

	before, after []byte // config.json
}

// explain is `berth gpu explain`.
func (c *gpuCommand) explain(args []string) error {
	f := flag.NewFlagSet("explain", flag.ContinueOnError)
	f.BoolVar(&c.json, "json", false, "print JSON")
	namespace := f.String("namespace", "", "containerd's namespace, where the id alone is not enough")
	showDiff := f.Bool("diff", false, "print how config.json is changed")
	args, err := c.parse(f, args, "explain [--json | --diff] [--namespace NAME] BUNDLE|CONTAINER", 1)
	if err != nil {
		return err
	}
	return c.plan(func(p *gpu.Planner) error {
		e, err := c.find(p, *namespace, args[0])
		if err != nil {
			return err
		}
		switch {
		case c.json:
			return c.encode(e)
		case *showDiff:
			return c.diff(e)
		}
		return c.entries(e)
	})
}

// find explains a container that has been injected, or a bundle that has not.
func (c *gpuCommand) find(p *gpu.Planner, namespace, name string) (*explanation, error) {
	claims, err := p.Roots.Claims()
	if err != nil {
		return nil, err
	}
	bundle, isBundle := bundleAt(name)
	var found []gpu.Claim
	for _, claim := range claims {
		if isBundle && sameDir(claim.Bundle, bundle) || !isBundle && claim.ID == name && (namespace == "" || claim.Namespace == namespace) {
			found = append(found, claim)
		}
	}
	switch {
	case len(found) > 1:
		return nil, fmt.Errorf("%d containers are called %s: say which with --namespace %s or %s",
			len(found), name, found[0].Namespace, found[1].Namespace)
	case len(found) == 1:
		return injected(&found[0])
	case isBundle:
		return c.would(p, bundle)
	}
	return nil, fmt.Errorf("%.80q is neither a bundle nor a container that has been given a GPU; see `berth gpu ls`: %w", name, errdefs.ErrNotFound)
}

// bundleAt is the absolute path of a bundle, if name is that of one.
func bundleAt(name string) (string, bool) {
	if _, err := os.Stat(filepath.Join(name, "config.json")); err != nil {
		return "", false
	}
	path, err := filepath.Abs(name)
	return path, err == nil
}

// sameDir is true for two names of one directory: /var/run is mostly a link.
func sameDir(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func injected(claim *gpu.Claim) (*explanation, error) {
	e := &explanation{
		Container: claim.Namespace + "/" + claim.ID, Bundle: claim.Bundle, Injected: true,
		Source: claim.Source, Asked: claim.Asked, Devices: claim.Devices, Entries: claim.Entries,
	}
	var err error
	if e.before, err = os.ReadFile(filepath.Join(claim.Bundle, gpu.BeforeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	e.after, err = os.ReadFile(filepath.Join(claim.Bundle, "config.json"))
	return e, err
}

func (c *gpuCommand) would(p *gpu.Planner, bundle string) (*explanation, error) {
	spec, err := hooks.LoadSpec(bundle, filepath.Base(bundle))
	if err != nil {
		return nil, err
	}
	oci, err := spec.OCI()
	if err != nil {
		return nil, err
	}
	e := &explanation{Bundle: bundle, before: spec.Config(), after: spec.Config()}
	plan, err := p.Plan(c.ctx, oci)
	if err != nil || plan == nil {
		return e, err
	}
	e.Source, e.Asked, e.Devices, e.Entries = plan.Request.Source, plan.Request.Asked, plan.Holdings(), plan.Entries()
	if e.before, err = json.Marshal(oci); err == nil {
		e.after, err = applied(plan, oci)
	}
	return e, err
}

func applied(plan *gpu.Plan, oci *specs.Spec) ([]byte, error) {
	plan.Apply(oci)
	return json.Marshal(oci)
}

func (c *gpuCommand) entries(e *explanation) error {
	if e.Source == "" {
		_, err := fmt.Fprintln(c.stdout, "the container asks for no GPU: its spec stays as it is")
		return err
	}
	verb := "would get"
	if e.Injected {
		verb = e.Container + " got"
	}
	fmt.Fprintf(c.stdout, "%s, for %q by %s:\n", verb, e.Asked, e.Source)
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, x := range e.Entries {
		from := x.From
		if from != "" {
			from = "<- " + from
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", x.Kind, x.Path, x.Reason, from)
	}
	return t.Flush()
}

// diff prints both versions of config.json, keys sorted, as lines that go and
// lines that come.
func (c *gpuCommand) diff(e *explanation) error {
	if e.before == nil {
		return fmt.Errorf("the spec of %s as it was before the injection has not been kept: %w", e.Bundle, errdefs.ErrNotFound)
	}
	before, err := pretty(e.before)
	if err != nil {
		return err
	}
	after, err := pretty(e.after)
	if err != nil {
		return err
	}
	for _, line := range diffLines(before, after) {
		fmt.Fprintln(c.stdout, line)
	}
	return nil
}

func pretty(raw []byte) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(v, "", "  ")
	return strings.Split(string(out), "\n"), err
}
