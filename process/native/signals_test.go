// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/process"
)

// What this program ignores, as one that nohup has started, its containers do not.
func TestNothingIsIgnored(t *testing.T) {
	b := newBox(t, "sleep 1000")
	signal.Ignore(unix.SIGHUP, unix.SIGINT)
	defer signal.Reset(unix.SIGHUP, unix.SIGINT)
	if b.ignores(os.Getpid())&3 == 0 {
		t.Fatal("this program ignores neither SIGHUP nor SIGINT")
	}
	init := b.run(nil)
	signal.Ignore(unix.SIGHUP, unix.SIGINT)
	e, err := b.exec(shell("sleep 1000"), nil)
	b.must(err)
	for who, p := range map[string]*process.Process{"init": init, "exec": e} {
		if got := b.ignores(p.Pid()); got&3 != 0 {
			t.Errorf("the %s ignores signals: %#x", who, got)
		}
	}
	b.kill(e)
	b.kill(init)
	b.must(b.driver.Delete(t.Context(), b.id, false))
}

// ignores is a process's mask of ignored signals: bit 0 is SIGHUP, bit 1 SIGINT.
func (b *box) ignores(pid int) uint64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	b.must(err)
	_, after, _ := strings.Cut(string(status), "SigIgn:")
	mask, err := strconv.ParseUint(strings.Fields(after)[0], 16, 64)
	b.must(err)
	return mask
}
