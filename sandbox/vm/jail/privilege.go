// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// drop gives up every privilege that the program is not to have.
func (s *Spec) drop() error {
	if err := s.bound(); err != nil {
		return err
	}
	// Raw calls, which change this thread alone: it is the one that stays.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("leave all groups: %w", errno)
	}
	gid, uid := uintptr(s.GID), uintptr(s.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("become group %d: %w", s.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("become user %d: %w", s.UID, errno)
	}
	if err := s.setCapabilities(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse new privileges: %w", err)
	}
	return nil
}

// bound empties the bounding set of all but the capabilities to keep, and the
// ambient set. The kernel says EINVAL beyond the last capability that it knows.
func (s *Spec) bound() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for c := 0; ; c++ {
		if slices.Contains(s.Capabilities, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
}

// setCapabilities leaves the thread those to keep that it has. For a user that
// is not root exec(2) would take them away, so there are none.
func (s *Spec) setCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has, keep [2]unix.CapUserData
	if err := unix.Capget(&header, &has[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if s.UID == 0 {
		for _, c := range s.Capabilities {
			bit := has[c/32].Permitted & (1 << (c % 32))
			keep[c/32].Permitted |= bit
			keep[c/32].Effective |= bit
		}
	}
	if err := unix.Capset(&header, &keep[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}
