// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Init does what PID 1 owes the guest, and opens the port to the host. What it
// says on the way goes to log, the console.
func Init(log io.Writer) (*os.File, error) {
	if os.Getpid() != 1 {
		return nil, fmt.Errorf("the agent is PID 1 of a guest, not a program to run by hand (this is process %d)", os.Getpid())
	}
	unix.Umask(0o022)
	if err := leaveRootfs(); err != nil {
		return nil, err
	}
	if err := mountAll(); err != nil {
		return nil, err
	}
	// The kernel's OOM killer may take a container, never what reports it.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		return nil, fmt.Errorf("exempt the agent from the OOM killer: %w", err)
	}
	// A kernel that does not have that to choose makes a guest slower, and not wrong.
	if err := spareSwitches(); err != nil {
		_, _ = fmt.Fprintln(log, "berth-agent: the scheduler is left as it is:", err)
	}
	// Before the modules, so that the port's appearance is not missed.
	events, err := watchDevices()
	if err != nil {
		return nil, err
	}
	defer func() { _ = events.Close() }()
	if err := loadModules("/modules", log); err != nil {
		return nil, err
	}
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	return openPort(PortName, events)
}

// PowerOff ends the machine, and returns only if it cannot.
func PowerOff() error {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return nil
}
