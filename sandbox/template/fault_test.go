// SPDX-License-Identifier: Apache-2.0

package template

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox/vm"
)

// beQEMU is a QEMU that fails in the way that its machine's name says. It is given
// QEMU's arguments but for the first.
func beQEMU(args []string) error {
	how := strings.TrimPrefix(strings.Split(args[0], ",")[0], "guest=")
	var conn net.Conn
	for _, a := range args {
		if number, ok := strings.CutPrefix(a, "socket,id=monitor,fd="); ok {
			fd, err := strconv.Atoi(number)
			if err != nil {
				return err
			}
			if conn, err = net.FileConn(os.NewFile(uintptr(fd), "monitor")); err != nil {
				return err
			}
		}
	}
	if conn == nil {
		return errors.New("no monitor")
	}
	_, _ = fmt.Fprintln(conn, `{"QMP": {}}`)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		var c struct {
			Execute string `json:"execute"`
			ID      uint64 `json:"id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		at, what, _ := strings.Cut(how, "-")
		if strings.ReplaceAll(c.Execute, "-", "_") != at {
			_, _ = fmt.Fprintf(conn, `{"return": {}, "id": %d}`+"\n", c.ID)
			if c.Execute == "migrate-incoming" {
				_, _ = fmt.Fprintln(conn, `{"event": "MIGRATION", "data": {"status": "completed"}}`)
			}
			continue
		}
		switch what {
		case "dies":
			return errors.New("it dies")
		case "refuses":
			_, _ = fmt.Fprintf(conn, `{"error": {"class": "GenericError", "desc": "it refuses"}, "id": %d}`+"\n", c.ID)
		case "fails":
			_, _ = fmt.Fprintf(conn, `{"return": {}, "id": %d}`+"\n"+`{"event": "MIGRATION", "data": {"status": "failed"}}`+"\n", c.ID)
		case "hangs":
		}
	}
	return lines.Err()
}

// file is a sealed one.
func (r *rig) file(size int64, seals int) *os.File {
	r.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	r.must(err)
	f := os.NewFile(uintptr(fd), "test")
	r.Cleanup(func() { _ = f.Close() })
	r.must(f.Truncate(size))
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	r.must(err)
	return f
}

const sealed = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Whatever goes wrong with a clone is an error, in bounded time, and nothing is left.
func TestCloneFails(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		qemu   string // how the fake fails; empty is the real one
		memory int64
		seals  int
		says   string
	}{
		"memory that can be changed":    {"", 256 * mib, unix.F_SEAL_SHRINK, "could be changed"},
		"memory that is cut off":        {"", 255 * mib, sealed, "255 MiB"},
		"no state":                      {"", 256 * mib, sealed, "QEMU"},
		"QEMU refuses the capabilities": {"migrate_set_capabilities-refuses", 256 * mib, sealed, "it refuses"},
		"QEMU refuses to load":          {"migrate_incoming-refuses", 256 * mib, sealed, "it refuses"},
		"QEMU cannot load":              {"migrate_incoming-fails", 256 * mib, sealed, "it has failed"},
		"QEMU dies while it loads":      {"migrate_incoming-dies", 256 * mib, sealed, "the machine monitor is gone"},
		"QEMU hangs while it loads":     {"migrate_incoming-hangs", 256 * mib, sealed, "in good time"},
		"QEMU refuses a device":         {"device_add-refuses", 256 * mib, sealed, "it refuses"},
		"QEMU dies when it is to go on": {"cont-dies", 256 * mib, sealed, "the machine monitor is gone"},
		"nobody answers in the guest":   {"nothing", 256 * mib, sealed, "in good time"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.Cgroup = fmt.Sprintf("/berth-test-%d", os.Getpid())
			r.Share = shared(t)
			ctx := r.ctx
			if c.qemu != "" {
				self, err := os.Executable()
				r.must(err)
				r.QEMU, r.ID = self, c.qemu
			}
			if strings.Contains(c.says, "time") {
				var cancel func()
				ctx, cancel = context.WithTimeoutCause(ctx, 2*time.Second, errors.New("it was not there in good time"))
				defer cancel()
			}
			m, err := Clone(ctx, r.Config, &vm.Template{Memory: r.file(c.memory, c.seals), State: r.file(0, sealed)}, "pod")
			if err == nil {
				r.must(m.Close(context.Background()))
				t.Fatal("there is a clone")
			}
			t.Log(err)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error does not say %q", c.says)
			}
		})
	}
}
