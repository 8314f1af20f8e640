// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// parts are what a monitor's own memory is made of, in KiB.
type parts struct {
	code  int // what an emulator has translated: memory that it writes to and executes
	guest int // the guest's: all of it, or where it is a template's, what was written to
	all   int
}

// anatomy takes a process's memory apart (proc_pid_smaps(5)).
func anatomy(pid int) (p parts, _ error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return p, err
	}
	var part *int
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) >= 5 && !strings.HasSuffix(words[0], ":"): // a mapping: addresses, permissions, ..., name
			part = nil
			if strings.HasPrefix(words[1], "rwx") {
				part = &p.code
			} else if len(words) > 5 && strings.HasPrefix(words[5], "/memfd:") {
				part = &p.guest
			}
		case len(words) > 1 && words[0] == "Anonymous:":
			kib, err := strconv.Atoi(words[1])
			if err != nil {
				return p, fmt.Errorf("smaps of %d: %w", pid, err)
			}
			p.all += kib
			if part != nil {
				*part += kib
			}
		}
	}
	return p, nil
}
