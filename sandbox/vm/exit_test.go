// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"berth/process"
)

func TestExitSaysWhatHappened(t *testing.T) {
	noise := strings.Repeat("noise ", 1000)
	for name, c := range map[string]struct {
		exit Exit
		want string
	}{
		"a reason alone": {Exit{Reason: PoweredOff}, "the guest powered off"},
		"a detail":       {Exit{Reason: VMMEnded, Detail: "signal 9, SIGKILL"}, "the virtual machine monitor ended (signal 9, SIGKILL)"},
		"the monitor": {Exit{Reason: VMMEnded, VMM: []byte("qemu: no memory\n")},
			"the virtual machine monitor ended; the monitor said: qemu: no memory"},
		"a panic far up": {Exit{Reason: Reset, Console: []byte(noise + "Kernel panic - not syncing: x\r\n" + noise)},
			"the guest panicked or rebooted; the last of its console: Kernel panic - not syncing: x noise"},
		"what a guest may write there": {Exit{Reason: Reset, Console: []byte("\x1b[2J\x00a\n\nb\xff\u202ec")},
			"the guest panicked or rebooted; the last of its console: [2J a b c"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.exit.Error(); !strings.HasPrefix(got, c.want) {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
}

// The end of virtiofsd is QEMU's doing if it ended well and QEMU is seen to end soon, and
// its own if it was killed.
func TestShareIsCause(t *testing.T) {
	for name, c := range map[string]struct {
		share int
		vmm   time.Duration // when QEMU's end is seen; 0 is never
		want  bool
	}{
		"QEMU has hung up":                {0, 400 * time.Millisecond, false},
		"it has ended without being told": {0, 0, true},
		"it was killed":                   {137, 400 * time.Millisecond, true},
		"both were killed":                {137, 10 * time.Millisecond, false},
		"it failed":                       {1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				share, endShare := process.Elsewhere(1, nil)
				vmm, endVMM := process.Elsewhere(1, nil)
				endShare(process.Exit{Status: c.share, Known: true})
				if c.vmm > 0 {
					time.AfterFunc(c.vmm, func() { endVMM(process.Exit{Status: 137, Known: true}) })
				}
				if got := (&Machine{share: share, vmm: vmm}).shareIsCause(); got != c.want {
					t.Errorf("virtiofsd is the cause: %v", got)
				}
			})
		})
	}
}

// The text ends in logs and events: it is short, one line, and shows what it is.
func FuzzPrintable(f *testing.F) {
	f.Add([]byte("a\x1b[2Jb"), 3)
	f.Add([]byte("日本語"), 4)
	f.Fuzz(func(t *testing.T, text []byte, most int) {
		if most < 0 || most > 1<<10 {
			return
		}
		got := printable(text, most)
		if len(got) > most {
			t.Errorf("%q has more than %d bytes", got, most)
		}
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q is not fit to be read", got)
		}
	})
}

func TestTSC(t *testing.T) {
	khz, err := tscKHz()
	if err != nil {
		t.Skip(err)
	}
	if khz < 500_000 || khz > 10_000_000 {
		t.Errorf("the time stamp counter makes %d kHz", khz)
	}
}
