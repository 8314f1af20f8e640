// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// emulatedWord, on the kernel's command line, says that the guest is emulated
	// (sandbox/vm).
	emulatedWord = "berth.emulated"
	// debugfs has the scheduler's features, and is mounted no longer than for them.
	debugfs = "/sys/kernel/debug"
)

// spareSwitches has whoever is woken in an emulated guest wait until the one that
// runs waits for something itself, or has had its turn. The kernel's way is that it is
// interrupted at once, and goes on when the other waits again: dozens of times in each
// exec. At each change of the address space an emulator forgets where the code is that
// it has translated (docs/vm.md, "Speed"). A CPU does not, and keeps the kernel's way.
func spareSwitches() (retErr error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil || !slices.Contains(strings.Fields(string(line)), emulatedWord) {
		return err
	}
	if err := unix.Mount("debugfs", debugfs, "debugfs", noExec, ""); err != nil {
		return fmt.Errorf("mount debugfs: %w", err)
	}
	defer func() {
		if err := unix.Unmount(debugfs, 0); err != nil && retErr == nil {
			retErr = fmt.Errorf("unmount debugfs: %w", err)
		}
	}()
	return os.WriteFile(debugfs+"/sched/features", []byte("NO_WAKEUP_PREEMPTION"), 0)
}
