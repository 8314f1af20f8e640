// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/seccomp"
	runcfeatures "github.com/opencontainers/runc/types/features"

	"berth/process/oci"
)

// linked is the version of the library that is in this program, by the go
// command: a test's build information has no modules.
func linked(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{with .Replace}}{{.Version}}{{else}}{{.Version}}{{end}}", Module).Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no go command to tell the version of the library in this program")
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}

// The command line to compare with is of the version that is linked. Every test that
// compares the two presumes it.
func TestOracle(t *testing.T) {
	needRunc(t)
	out, err := exec.Command(runc, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	if want := "runc version " + linked(t); first != want {
		t.Errorf("%s is %q, the library in this program is of %q: build the runc of that version (make setup)", runc, first, want)
	}
}

// A program knows its library's version, and the one that took its place.
func TestVersion(t *testing.T) {
	other := &debug.Module{Path: "example.org/other", Version: "v9.9.9"}
	for want, deps := range map[string][]*debug.Module{
		"1.5.2":   {other, {Path: Module, Version: "v1.5.2"}},
		"1.5.3":   {other, {Path: Module, Version: "v1.5.2", Replace: &debug.Module{Path: "example.org/fork", Version: "v1.5.3"}}},
		"unknown": {other},
	} {
		if got := versionIn(&debug.BuildInfo{Deps: deps}); got != want {
			t.Errorf("version %s, want %s", got, want)
		}
	}
}

// The library's features are those that the command line says, but for what only
// one of them has.
func TestFeatures(t *testing.T) {
	needRunc(t)
	said, err := exec.Command(runc, "features").Output()
	if err != nil {
		t.Fatal(err)
	}
	command := decodeFeatures(t, said)
	own, err := (&Driver{}).Features(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	native := decodeFeatures(t, own)
	notes := func(f map[string]any) map[string]any { m, _ := f["annotations"].(map[string]any); return m }

	// Checkpoints are the command line's, so a driver that has none knows none.
	key := runcfeatures.AnnotationRuncCheckpointEnabled
	if notes(native)[key] != "false" || notes(command)[key] != "true" {
		t.Errorf("%s is %v, and %v of the command line", key, notes(native)[key], notes(command)[key])
	}
	delete(notes(native), key)
	delete(notes(command), key)
	delete(notes(command), runcfeatures.AnnotationRuncCommit) // of its build
	// TestOracle and TestVersion see to it; a test's own build does not know it.
	delete(notes(native), runcfeatures.AnnotationRuncVersion)
	delete(notes(command), runcfeatures.AnnotationRuncVersion)
	if !seccomp.Enabled {
		t.Log("without seccomp: this test was built without the tag")
		delete(notes(command), runcfeatures.AnnotationLibseccompVersion)
		linux, _ := command["linux"].(map[string]any)
		delete(linux, "seccomp")
	}
	wantSame(t, "", command, native)
}

// A driver with a command line can make checkpoints.
func TestFeaturesWithCommand(t *testing.T) {
	d := &Driver{Command: func() (*oci.CLI, error) { return nil, nil }}
	data, err := d.Features(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	notes, _ := decodeFeatures(t, data)["annotations"].(map[string]any)
	if got := notes[runcfeatures.AnnotationRuncCheckpointEnabled]; got != "true" {
		t.Errorf("checkpoints are %v", got)
	}
	d.Command = func() (*oci.CLI, error) { return nil, os.ErrNotExist }
	if data, err = d.Features(t.Context()); err != nil {
		t.Fatal(err)
	}
	notes, _ = decodeFeatures(t, data)["annotations"].(map[string]any)
	if got := notes[runcfeatures.AnnotationRuncCheckpointEnabled]; got != "false" {
		t.Errorf("without the command line checkpoints are %v", got)
	}
}

func decodeFeatures(t *testing.T, data []byte) (f map[string]any) {
	t.Helper()
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return f
}

// wantSame reports where two values of JSON differ.
func wantSame(t *testing.T, where string, command, native any) {
	t.Helper()
	c, isMap := command.(map[string]any)
	n, both := native.(map[string]any)
	if !isMap || !both {
		if !reflect.DeepEqual(command, native) {
			t.Errorf("%s:\n command %v\n native  %v", where, command, native)
		}
		return
	}
	keys := maps.Clone(c)
	maps.Copy(keys, n)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		wantSame(t, where+"."+key, c[key], n[key])
	}
}
