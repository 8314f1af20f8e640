// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Reason is why a machine ended.
type Reason string

const (
	// PoweredOff is a guest that turned itself off: its agent lost the host,
	// or a program in it asked.
	PoweredOff Reason = "the guest powered off"
	// Reset is a guest whose kernel panicked, whose agent ended, or that
	// rebooted; the console tells which.
	Reset Reason = "the guest panicked or rebooted"
	// VMMEnded is QEMU gone without a word about the guest.
	VMMEnded Reason = "the virtual machine monitor ended"
	// ShareEnded is virtiofsd gone: every use of a shared file would hang.
	ShareEnded Reason = "the daemon of the shared file system ended"
	// HostOOM is a machine that the host killed for want of memory, its own or
	// that of a cgroup that the machine is in.
	HostOOM Reason = "host OOM: the host's OOM killer ended the machine"
	// GuestOOM is a guest whose kernel gave up for want of memory. One that has
	// killed a process instead lives.
	GuestOOM Reason = "guest OOM: the guest's kernel ran out of memory and gave up"
	// Killed is a machine that its owner killed.
	Killed Reason = "the machine was killed"
)

// Exit is how a machine ended. As an error it tells that to people.
type Exit struct {
	Reason Reason
	// Detail is one more word about it.
	Detail string
	At     time.Time
	// Console is the last that the guest wrote to its console, and VMM the
	// last that QEMU and virtiofsd had to say. A guest chooses what is there.
	Console []byte
	VMM     []byte
}

const (
	// consoleSize is how much is kept of the console, in bytes.
	consoleSize = 64 << 10
	// vmmSize is how much is kept of what QEMU and virtiofsd say.
	vmmSize = 8 << 10
	// quoted is how much of either is in the text of an error, which ends in
	// a Kubernetes event.
	quoted = 1 << 10
)

func (e *Exit) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", e.Reason)
	if e.Detail != "" {
		fmt.Fprintf(&b, " (%s)", e.Detail)
	}
	for _, said := range []struct {
		what string
		text []byte
	}{{"the monitor said", e.VMM}, {"the last of its console", e.Console}} {
		if text := printable(telling(said.text), quoted); text != "" {
			fmt.Fprintf(&b, "; %s: %s", said.what, text)
		}
	}
	return b.String()
}

// telling is the part of a console to quote: from the kernel's panic on, if
// there was one, because the trace that follows it is long.
func telling(console []byte) []byte {
	at := bytes.LastIndex(console, []byte("Kernel panic"))
	if at < 0 {
		return console
	}
	return console[at:min(len(console), at+quoted)]
}

// printable is the end of a text that somebody else chose, in one line of
// characters that show.
func printable(text []byte, most int) string {
	if len(text) > most {
		text = text[len(text)-most:]
		for len(text) > 0 && !utf8.RuneStart(text[0]) {
			text = text[1:]
		}
	}
	clean := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, string(text))
	return strings.Join(strings.Fields(clean), " ")
}
