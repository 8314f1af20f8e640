// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// recorder is a hook that notes what is asked of it.
type recorder struct {
	name              string
	log               *[]string
	edit              func(*specs.Spec) error
	createErr, delErr error
	seenHost          *string // where to put the host name that Create saw
	afterCreate       func()
	needLiveDeleteCtx bool
}

func (r *recorder) Name() string { return r.name }

func (r *recorder) Create(_ context.Context, s *Spec) error {
	*r.log = append(*r.log, "create "+r.name)
	if r.seenHost != nil {
		oci, err := s.OCI()
		if err != nil {
			return err
		}
		*r.seenHost = oci.Hostname
	}
	if r.edit != nil {
		if err := s.Edit(r.edit); err != nil {
			return err
		}
	}
	if r.afterCreate != nil {
		r.afterCreate()
	}
	return r.createErr
}

func (r *recorder) Delete(ctx context.Context, id string) error {
	*r.log = append(*r.log, "delete "+r.name+" "+id)
	if r.needLiveDeleteCtx && ctx.Err() != nil {
		return ctx.Err()
	}
	return r.delErr
}

const plain = `{ "ociVersion": "1.0.2", "root": {"path": "rootfs"}, "x-future": {"big": 18446744073709551615} }`

func bundleWith(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(config), 0o640); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, bundle string) *Spec {
	t.Helper()
	s, err := LoadSpec(bundle, "c1")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func configOf(t *testing.T, bundle string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(bundle, configFile))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the bundle has %d entries, want config.json alone", len(entries))
	}
	return string(data)
}

func TestChainOrder(t *testing.T) {
	var log []string
	var seen string
	bundle := bundleWith(t, plain)
	chain := Chain{
		&recorder{name: "a", log: &log, edit: func(s *specs.Spec) error { s.Hostname = "<a>"; return nil }},
		&recorder{name: "b", log: &log, seenHost: &seen},
	}
	if err := chain.Create(t.Context(), load(t, bundle)); err != nil {
		t.Fatal(err)
	}
	if seen != "<a>" {
		t.Errorf("the second hook saw host name %q", seen)
	}
	if err := chain.Delete(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"create a", "create b", "delete b c1", "delete a c1"}; !slices.Equal(log, want) {
		t.Errorf("order %q, want %q", log, want)
	}
	got := configOf(t, bundle)
	for _, part := range []string{`"hostname":"<a>"`, `"x-future":{"big":18446744073709551615}`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	info, err := os.Stat(filepath.Join(bundle, configFile))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v; want that of before, 0640", info.Mode(), err)
	}
}

func TestChainFailure(t *testing.T) {
	errB, errDelete := errors.New("b does not like it"), errors.New("stuck")
	var log []string
	bundle := bundleWith(t, plain)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	chain := Chain{
		&recorder{name: "0", log: &log, needLiveDeleteCtx: true},
		&recorder{name: "a", log: &log, delErr: errDelete, edit: func(s *specs.Spec) error { s.Hostname = "x"; return nil }},
		&recorder{name: "b", log: &log, createErr: errB, afterCreate: cancel},
		&recorder{name: "c", log: &log},
	}
	err := chain.Create(ctx, load(t, bundle))
	if !errors.Is(err, errB) || !errors.Is(err, errDelete) || errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want that of b and that of undoing a, and no more", err)
	}
	if want := []string{"create 0", "create a", "create b", "delete a c1", "delete 0 c1"}; !slices.Equal(log, want) {
		t.Errorf("order %q, want %q", log, want)
	}
	if got := configOf(t, bundle); got != plain {
		t.Errorf("config.json is now %s", got)
	}
}

func TestChainCancelled(t *testing.T) {
	var log []string
	ctx, cancel := context.WithCancel(t.Context())
	chain := Chain{&recorder{name: "a", log: &log, afterCreate: cancel}, &recorder{name: "b", log: &log}}
	if err := chain.Create(ctx, load(t, bundleWith(t, plain))); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if want := []string{"create a", "delete a c1"}; !slices.Equal(log, want) {
		t.Errorf("order %q, want %q", log, want)
	}
}

func TestChainWriteFailure(t *testing.T) {
	var log []string
	bundle := bundleWith(t, plain)
	s := load(t, bundle)
	if err := os.RemoveAll(bundle); err != nil {
		t.Fatal(err)
	}
	chain := Chain{&recorder{name: "a", log: &log, edit: func(s *specs.Spec) error { s.Hostname = "x"; return nil }}}
	if err := chain.Create(t.Context(), s); err == nil {
		t.Error("no error")
	}
	if want := []string{"create a", "delete a c1"}; !slices.Equal(log, want) {
		t.Errorf("order %q, want %q", log, want)
	}
}

func TestDeleteAsksAll(t *testing.T) {
	var log []string
	err1, err2 := errors.New("one"), errors.New("two")
	err := Chain{&recorder{name: "a", log: &log, delErr: err1}, &recorder{name: "b", log: &log, delErr: err2}}.Delete(t.Context(), "c1")
	if !errors.Is(err, err1) || !errors.Is(err, err2) {
		t.Errorf("error %v, want both", err)
	}
}

// A spec that no hook changed keeps its bytes, and its inode.
func TestUnchangedKeepsBytes(t *testing.T) {
	for name, edit := range map[string]func(*specs.Spec) error{
		"no edit":                nil,
		"edit without an effect": func(s *specs.Spec) error { s.Hostname = ""; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var log []string
			bundle := bundleWith(t, plain)
			before, _ := os.Stat(filepath.Join(bundle, configFile))
			if err := (Chain{Sanity{}, &recorder{name: "a", log: &log, edit: edit}}).Create(t.Context(), load(t, bundle)); err != nil {
				t.Fatal(err)
			}
			after, _ := os.Stat(filepath.Join(bundle, configFile))
			if got := configOf(t, bundle); got != plain || !os.SameFile(before, after) {
				t.Errorf("config.json was written: %s", got)
			}
		})
	}
}

func TestLoadSpecRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		config string
		says   string
	}{
		"empty":     {"", "is empty"},
		"truncated": {plain[:40], "is cut short after 40 bytes"},
		"text":      {"hello", "does not hold an OCI spec"},
		"list":      {"[]", "does not hold an OCI spec"},
		"trailing":  {plain + "}", "does not hold an OCI spec"},
		"huge":      {strings.Repeat(" ", maxConfigSize+1), "at most 16777216"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadSpec(bundleWith(t, tc.config), "c1")
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := LoadSpec(t.TempDir(), "c1"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("no config.json: %v", err)
	}
}

// A FIFO in the place of config.json neither hangs the shim nor is read.
func TestLoadSpecFIFO(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, configFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSpec(dir, "c1"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error %v", err)
	}
}
