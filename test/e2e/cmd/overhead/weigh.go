// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// weight is the proportional set size of a machine's processes, in KiB.
type weight struct {
	guest int // the guest's memory, as far as it was touched
	vmm   int // QEMU without that
	code  int // of it, what an emulator has translated
	share int // virtiofsd
	shim  int
}

// weigh finds the processes of the machine whose QEMU has a pid, and weighs them.
func weigh(vmm int) (w weight, err error) {
	shim, _, err := parentAndName(vmm)
	if err != nil {
		return w, err
	}
	if w.vmm, w.guest, w.code, err = pss(vmm); err != nil {
		return w, err
	}
	if w.shim, _, _, err = pss(shim); err != nil {
		return w, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return w, err
	}
	for _, dir := range processes {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		parent, name, err := parentAndName(pid)
		if err != nil || parent != shim || name != "virtiofsd" {
			continue
		}
		own, guest, _, err := pss(pid)
		if err != nil {
			return w, err
		}
		w.share += own
		w.guest += guest
	}
	return w, nil
}

// pss adds the mappings of a process up: the guest's memory apart, and again
// those that can be executed and are no file's (proc_pid_smaps(5)).
func pss(pid int) (own, guest, code int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, 0, 0, err
	}
	isGuest, isCode := false, false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 5 && strings.Contains(f[0], "-"): // a mapping begins
			name := strings.Join(f[5:], " ")
			isGuest = strings.HasPrefix(name, "/memfd:memory")
			isCode = strings.Contains(f[1], "x") && strings.Contains(f[1], "w") && name == ""
		case len(f) > 1 && f[0] == "Pss:":
			n, _ := strconv.Atoi(f[1])
			switch {
			case isGuest:
				guest += n
			case isCode:
				code += n
				own += n
			default:
				own += n
			}
		}
	}
	return own, guest, code, nil
}

// parentAndName reads proc_pid_stat(5).
func parentAndName(pid int) (parent int, name string, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	head, rest, _ := strings.Cut(string(stat), ") ")
	_, name, _ = strings.Cut(head, "(")
	if f := strings.Fields(rest); len(f) > 1 {
		parent, err = strconv.Atoi(f[1])
	}
	return parent, name, err
}
