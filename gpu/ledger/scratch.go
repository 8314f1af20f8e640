// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"berth/process"
)

// Scratch is how the names of files begin that this process writes in a folder without a lock,
// before they are whole and have their own. A process that is killed then leaves one behind; the
// name says whose it is, so that Prune can tell it from one that is being written.
func Scratch() (string, error) {
	pid := os.Getpid()
	started, err := process.StartTime(pid)
	if err != nil {
		return "", fmt.Errorf("look when this process started: %w", err)
	}
	ns, err := process.PIDNamespace()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%d-%d-%d-", tmpPrefix, pid, started, ns), nil
}

// pruneScratch removes what dead processes have left in a folder.
func pruneScratch(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), tmpPrefix)
		var pid int
		var started, ns uint64
		if n, _ := fmt.Sscanf(rest, "%d-%d-%d-", &pid, &started, &ns); !ours || n != 3 || !here(ns) || running(pid, started) {
			continue
		}
		if gone := os.Remove(filepath.Join(dir, e.Name())); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
