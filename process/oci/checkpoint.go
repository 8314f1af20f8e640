// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Checkpoint writes the container's processes to disk. Where that cannot be done, the error
// holds what CRIU says of the reason; its whole log stays in WorkPath, or if none was given
// in the file criu-dump.log of CLI.Dir.
func (c *CLI) Checkpoint(ctx context.Context, r *CheckpointRequest) error {
	req := *r
	scratch := req.WorkPath == ""
	if scratch {
		dir, err := os.MkdirTemp(c.Dir, "criu-work-")
		if err != nil {
			return fmt.Errorf("make work directory of criu: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		req.WorkPath = dir
	}
	args := req.args()
	if !req.Exit {
		args = append(args, "--leave-running")
	}
	err := c.simple(ctx, "checkpoint", append(args, req.ID)...)
	if err == nil {
		return nil
	}
	log := filepath.Join(req.WorkPath, "dump.log")
	reason := criuReason(log)
	if scratch && c.Dir != "" {
		kept := filepath.Join(c.Dir, "criu-dump.log")
		if os.Rename(log, kept) == nil {
			log = kept
		}
	}
	if reason == "" {
		return err
	}
	return fmt.Errorf("%w; criu: %s; see %s", err, reason, log)
}

func (c *CRIU) args() []string {
	var args []string
	for _, s := range [...]struct{ flag, value string }{
		{"--image-path", c.ImagePath},
		{"--work-path", c.WorkPath},
		{"--parent-path", c.ParentPath},
		{"--manage-cgroups-mode", c.CgroupsMode},
	} {
		if s.value != "" {
			args = append(args, s.flag, s.value)
		}
	}
	for _, b := range [...]struct {
		flag string
		on   bool
	}{
		{"--tcp-established", c.OpenTCP},
		{"--ext-unix-sk", c.ExternalUnixSockets},
		{"--shell-job", c.ShellJob},
		{"--file-locks", c.FileLocks},
	} {
		if b.on {
			args = append(args, b.flag)
		}
	}
	for _, ns := range c.EmptyNamespaces {
		args = append(args, "--empty-ns", ns)
	}
	return args
}

// criuReason is the first error in a log of CRIU: the later ones follow from it. A line is
// "(00.012345) Error (criu/file.c:12): text".
func criuReason(path string) string {
	log := (&callLog{path: path}).read()
	for line := range bytes.Lines(log) {
		if i := bytes.Index(line, []byte("Error (")); i >= 0 {
			return clean(string(line[i:]))
		}
	}
	return ""
}
