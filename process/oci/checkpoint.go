// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Checkpoint writes the container's processes to disk. Where that cannot be done, the error
// holds what CRIU says of the reason; its whole log stays in WorkPath, or if none was given
// in the file criu-dump.log of CLI.Dir.
func (c *CLI) Checkpoint(ctx context.Context, r *CheckpointRequest) error {
	criu := r.CRIU
	work, err := criu.openWork(c.Dir, "dump.log")
	if err != nil {
		return err
	}
	defer work.close()
	args := criu.args()
	if !r.Exit {
		args = append(args, "--leave-running")
	}
	return work.explain(c.simple(ctx, "checkpoint", append(args, r.ID)...))
}

// criuWork is the directory in which CRIU leaves its log.
type criuWork struct {
	log  string // the log's path while CRIU runs
	dir  string // to be removed in the end; "" if it is the caller's
	keep string // where the log of a failure goes then
}

// openWork makes a work directory in dir, unless the caller has given one.
func (c *CRIU) openWork(dir, log string) (*criuWork, error) {
	if c.WorkPath != "" {
		return &criuWork{log: filepath.Join(c.WorkPath, log)}, nil
	}
	scratch, err := os.MkdirTemp(dir, ".criu-work-")
	if err != nil {
		return nil, fmt.Errorf("make work directory of criu: %w", err)
	}
	c.WorkPath = scratch
	return &criuWork{log: filepath.Join(scratch, log), dir: scratch, keep: filepath.Join(dir, "criu-"+log)}, nil
}

func (w *criuWork) close() {
	if w.dir != "" {
		_ = os.RemoveAll(w.dir)
	}
}

// explain adds to the runtime's error, which says no more than that CRIU failed, what CRIU
// itself gives as the reason, and where the rest is.
func (w *criuWork) explain(err error) error {
	if err == nil {
		return nil
	}
	reason, log := criuReason(w.log), w.log
	if reason == "" {
		return err
	}
	if w.dir != "" && os.Rename(w.log, w.keep) == nil {
		log = w.keep
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

// criuReason is the first error in a log of CRIU, of which the later ones follow, and the
// last, since some probe may have been the first. Errors without news are left out, unless
// there are no others. A line is "(00.012345) Error (criu/file.c:12): text".
func criuReason(path string) string {
	var news, all []string
	for line := range bytes.Lines((&callLog{path: path}).read()) {
		i := bytes.Index(line, []byte("Error ("))
		if i < 0 {
			continue
		}
		text := clean(string(line[i:min(len(line), i+maxMessage/2)]))
		all = append(all, text)
		if !strings.Contains(text, "): exited, status=") && !strings.HasSuffix(text, " FAILED.") {
			news = append(news, text)
		}
	}
	if len(news) == 0 {
		news = all
	}
	if len(news) == 0 {
		return ""
	}
	first, last := news[0], news[len(news)-1]
	if first == last {
		return first
	}
	return first + "; in the end: " + last
}
