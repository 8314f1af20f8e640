// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// testTerminal runs ctr on a terminal: what is typed arrives, the size is passed on.
func testTerminal(t *testing.T, h *host) {
	master, slave := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// ctr passes the size on some time after the start.
	script := `echo up; until [ "$(stty size 2>/dev/null)" = "40 100" ]; do sleep 0.05; done; echo sized; read x; echo "got $x"; exit 6`
	cmd := h.command(ctx, "ctr", h.runArgs("terminal", "", []string{"--rm", "-t"}, []string{"sh", "-c", script})...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	screen := new(screen)
	var reading sync.WaitGroup
	reading.Go(func() { screen.follow(master) })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	h.await(t, "the terminal's size in the container, after "+screen.String(), func() bool { return strings.Contains(screen.String(), "sized") })
	h.noteSockets(t)
	if _, err := master.WriteString("hello\r"); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	reading.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 6 || !strings.Contains(screen.String(), "got hello\r") {
		t.Errorf("status %d, want 6; screen: %q", code, screen)
	}
}

// screen collects what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// follow reads until the last program has left the terminal.
func (s *screen) follow(master *os.File) {
	buffer := make([]byte, 4096)
	for {
		n, err := master.Read(buffer)
		s.mu.Lock()
		s.text.Write(buffer[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// openTerminal makes a pseudo terminal; see pts(4).
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
