// SPDX-License-Identifier: Apache-2.0

// Command guestagent is PID 1 of the machines that tests of sandbox/vm boot. It
// comes up as berth-agent does, and then does what a test tells it, one line
// over the port for each request and each answer, both quoted as Go does.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/sandbox/agent"
)

func main() {
	port, err := agent.Init(os.Stderr)
	if err == nil {
		err = serve(port)
	}
	if err == nil {
		err = agent.PowerOff()
	}
	fmt.Fprintln(os.Stderr, "guestagent:", err)
	os.Exit(1)
}

// serve answers until the host hangs up.
func serve(port *os.File) error {
	if _, err := fmt.Fprintln(port, "guestagent"); err != nil {
		return err
	}
	lines := bufio.NewScanner(port)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		request, err := strconv.Unquote(lines.Text())
		if err != nil {
			return err
		}
		answer, err := obey(strings.Split(request, "\x00"))
		status := "ok"
		if err != nil {
			status, answer = "error", err.Error()
		}
		if _, err := fmt.Fprintln(port, status, strconv.Quote(answer)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func obey(words []string) (string, error) {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch arg(0) {
	case "read":
		data, err := os.ReadFile(arg(1))
		return string(data), err
	case "write":
		return "", os.WriteFile(arg(1), []byte(arg(2)), 0o644)
	case "list":
		return list(arg(1))
	case "mount": // TYPE SOURCE TARGET
		if err := os.MkdirAll(arg(3), 0o755); err != nil {
			return "", err
		}
		return "", unix.Mount(arg(2), arg(3), arg(1), 0, "")
	case "unmount":
		return "", unix.Unmount(arg(1), 0)
	case "mknod":
		return "", unix.Mknod(arg(1), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	case "disk":
		return disk(arg(1))
	case "interfaces":
		return interfaces()
	case "eat": // holds so many MiB
		return "", eat(arg(1))
	case "reboot":
		return "", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case "exit":
		os.Exit(0)
	case "deaf":
		select {}
	}
	return "", fmt.Errorf("what is %q", words)
}

func list(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " "), err
}

// disk finds the disk of a serial number, once it can be opened, which is later than
// it is shown; its name is below /dev.
func disk(serial string) (string, error) {
	pages, err := filepath.Glob("/sys/block/sd*/device/vpd_pg80")
	if err != nil {
		return "", err
	}
	for _, p := range pages {
		// 4 bytes of header, then the serial number (SPC-4, 7.8.13).
		if page, err := os.ReadFile(p); err == nil && len(page) > 4 && strings.TrimSpace(string(page[4:])) == serial {
			name := filepath.Base(filepath.Dir(filepath.Dir(p)))
			f, err := os.Open("/dev/" + name)
			if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
				return "", nil
			}
			if err == nil {
				err = f.Close()
			}
			return name, err
		}
	}
	return "", nil
}

func interfaces() (string, error) {
	all, err := net.Interfaces()
	var names []string
	for _, i := range all {
		names = append(names, strings.TrimSpace(i.HardwareAddr.String()+" "+i.Flags.String()))
	}
	sort.Strings(names)
	return strings.Join(names, "\n"), err
}

var eaten [][]byte

func eat(mib string) error {
	n, err := strconv.Atoi(mib)
	for range n {
		page := make([]byte, 1<<20)
		for i := 0; i < len(page); i += 4096 {
			page[i] = 1
		}
		eaten = append(eaten, page)
	}
	return err
}
