// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"berth/test/fakeoci"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// findPlan finds the bundle of the call and the plan that holds for it.
func (inv *invocation) findPlan() error {
	inv.bundle = inv.flags["bundle"]
	if inv.bundle == "" && inv.id != "" {
		if st, err := inv.load(); err == nil {
			inv.bundle = st.Bundle
		}
	}
	paths := []string{filepath.Join(inv.root, fakeoci.PlanFile)}
	if inv.bundle != "" {
		paths = append([]string{filepath.Join(inv.bundle, fakeoci.PlanFile)}, paths...)
		if spec, err := inv.spec(); err == nil && spec.Annotations[fakeoci.PlanAnnotation] != "" {
			paths = []string{spec.Annotations[fakeoci.PlanAnnotation]}
		}
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields() // a misspelt key would make a test pass for nothing
		if err := dec.Decode(&inv.plan); err != nil {
			return fmt.Errorf("plan %s: %w", path, err)
		}
		break
	}
	inv.do = inv.plan.Verbs[inv.verb]
	if do, ok := inv.plan.Verbs[inv.key()]; ok {
		inv.do = do
	}
	if inv.do.Times > 0 && inv.earlier() >= inv.do.Times {
		inv.do = fakeoci.Verb{}
	}
	return nil
}

func (inv *invocation) spec() (*specs.Spec, error) {
	data, err := os.ReadFile(filepath.Join(inv.bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	var s specs.Spec
	return &s, json.Unmarshal(data, &s)
}

func (inv *invocation) callLog() string {
	switch {
	case inv.plan.Log != "":
		return inv.plan.Log
	case inv.bundle != "":
		return filepath.Join(inv.bundle, fakeoci.LogFile)
	default:
		return filepath.Join(inv.root, fakeoci.LogFile)
	}
}

// earlier counts the calls with the same key before this one.
func (inv *invocation) earlier() int {
	data, _ := os.ReadFile(inv.callLog())
	n := 0
	for line := range bytes.Lines(data) {
		var c fakeoci.Call
		if json.Unmarshal(line, &c) == nil && c.Phase == "begin" && c.Key == inv.key() && c.ID == inv.id {
			n++
		}
	}
	return n
}

func (inv *invocation) record(phase string, exit int) {
	dir, _ := os.Getwd()
	data, _ := json.Marshal(fakeoci.Call{
		Phase: phase, Verb: inv.verb, Key: inv.key(), ID: inv.id, Pid: os.Getpid(), Args: os.Args[1:],
		Dir: dir, Env: os.Environ(), Stdin: inv.stdin, Made: inv.made, Exit: exit,
	})
	appendTo(inv.callLog(), string(data)+"\n")
}

// appendTo adds text in one write, so that lines of calls side by side do not mix.
func appendTo(path, text string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return // the directory is gone, as after a delete
	}
	defer f.Close()
	_, _ = f.WriteString(text)
}
