// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// longID is a container id of CRI.
var longID = regexp.MustCompile(`\b([0-9a-f]{13})[0-9a-f]{51}\b`)

// pod runs a CRI pod of two containers and shows that one shim serves it.
func (d *demo) pod(ctx context.Context) error {
	d.title("A CRI pod of two containers, by crictl, with runtime handler %q", d.handler)
	pod, err := d.node.WritePod("demo", d.handler)
	if err != nil {
		return err
	}
	id, err := d.show(ctx, 0, "crictl", "runp", "--runtime", d.handler, pod.Config)
	if err != nil {
		return err
	}
	pod.ID = strings.TrimSpace(id)
	var first string
	for _, name := range []string{"web", "log"} {
		config, err := pod.WriteContainer(name, "sh", "-c", "echo "+name+" runs as PID $$; exec sleep 1000")
		if err != nil {
			return err
		}
		id, err := d.show(ctx, 0, "crictl", "create", pod.ID, config, pod.Config)
		if err != nil {
			return err
		}
		id = strings.TrimSpace(id)
		if _, err := d.show(ctx, 0, "crictl", "start", id); err != nil {
			return err
		}
		if first == "" {
			first = id
		}
	}
	for _, args := range [][]string{
		{"ps"},
		{"exec", first, "sh", "-c", "echo exec in a pod; ip -o -4 addr show eth0"},
		{"logs", first},
	} {
		if _, err := d.show(ctx, 0, "crictl", args...); err != nil {
			return err
		}
	}
	if err := d.shims(); err != nil {
		return err
	}
	for _, args := range [][]string{{"stopp", pod.ID}, {"rmp", pod.ID}} {
		if _, err := d.show(ctx, 0, "crictl", args...); err != nil {
			return err
		}
	}
	return nil
}

// shims prints each shim of the node with its memory and its children, and wants
// the pod to have one.
func (d *demo) shims() error {
	shims, err := d.node.Shims()
	if err != nil {
		return err
	}
	for _, s := range shims {
		proc := filepath.Join("/proc", strconv.Itoa(s.Pid))
		children, err := os.ReadFile(filepath.Join(proc, "task", strconv.Itoa(s.Pid), "children"))
		if err != nil {
			return fmt.Errorf("list children of shim: %w", err)
		}
		name, _, _ := strings.Cut(s.Command, " ")
		d.printf("  one shim serves the pod: %s, PID %d, PSS %s, anonymous memory %s\n",
			filepath.Base(name), s.Pid, rollup(proc, "Pss:"), rollup(proc, "Anonymous:"))
		for _, child := range strings.Fields(string(children)) {
			cmdline, err := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
			if err != nil {
				return fmt.Errorf("read child of shim: %w", err)
			}
			d.printf("      its child %s: %s\n", child, strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " ")))
		}
	}
	if len(shims) != 1 {
		return fmt.Errorf("%d shims serve the pod, want 1", len(shims))
	}
	return nil
}

// rollup reads one line of a process's smaps_rollup; see proc(5).
func rollup(proc, key string) string {
	data, err := os.ReadFile(filepath.Join(proc, "smaps_rollup"))
	if err != nil {
		return "unknown"
	}
	for _, line := range strings.Split(string(data), "\n") {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
