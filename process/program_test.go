// SPDX-License-Identifier: Apache-2.0

package process

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The programs that the streams tests run are this test binary, started with
// "program" NAME and then keys and values, as a logger's URI gives them.

// runProgram runs the program that the arguments name, if they name one. It
// ends by syscall.Exit, which leaves out the second that the race detector
// takes in os.Exit.
func runProgram() {
	if len(os.Args) < 3 || os.Args[1] != "program" {
		return
	}
	arg := map[string]string{}
	for i := 3; i+1 < len(os.Args); i += 2 {
		arg[os.Args[i]] = os.Args[i+1]
	}
	programs := map[string]func(map[string]string) error{
		"burst": burst, "logger": goodLogger, "logger-mute": muteLogger, "logger-stubborn": stubbornLogger,
		"logger-crash": func(map[string]string) error { syscall.Exit(3); return nil },
		"runtime":      ttyRuntime, "begetter": begetter,
	}
	if err := programs[os.Args[2]](arg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		syscall.Exit(1)
	}
	syscall.Exit(0)
}

// self returns the path of the test binary.
func self(t testing.TB) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// loggerURI names a program here as a logger.
func loggerURI(t testing.TB, scheme, name string, args ...string) string {
	uri := scheme + "://" + self(t) + "?program=" + name
	for i := 0; i < len(args); i += 2 {
		uri += "&" + url.QueryEscape(args[i]) + "=" + url.QueryEscape(args[i+1])
	}
	return uri
}

// noise is what burst writes: reproducible, and without bytes that a terminal
// would change.
func noise(n int) io.Reader {
	return io.LimitReader(&noiseSource{rng: rand.New(rand.NewPCG(1, 2))}, int64(n))
}

type noiseSource struct{ rng *rand.Rand }

func (s *noiseSource) Read(p []byte) (int, error) {
	n := len(p) &^ 7
	for i := 0; i < n; i += 8 {
		binary.NativeEndian.PutUint64(p[i:], s.rng.Uint64()&0x0f0f0f0f0f0f0f0f+0x6161616161616161)
	}
	return n, nil // io.Copy comes again with as much room
}

func burst(arg map[string]string) error {
	n, err := strconv.Atoi(arg["bytes"])
	if err != nil {
		return err
	}
	_, err = io.Copy(struct{ io.Writer }{os.Stdout}, noise(n))
	return err
}

// goodLogger writes its inputs and its environment to files in a directory.
func goodLogger(arg map[string]string) error {
	ready := os.NewFile(5, "ready")
	if arg["ready"] != "close" {
		ready.Write([]byte{0})
	}
	ready.Close()
	dir := arg["dir"]
	if err := os.WriteFile(filepath.Join(dir, "env"), []byte(strings.Join(os.Environ(), "\n")), 0o600); err != nil {
		return err
	}
	errs := make(chan error)
	for i, name := range []string{"stdout", "stderr"} {
		go func() {
			out, err := os.Create(filepath.Join(dir, name))
			if err == nil {
				_, err = io.Copy(out, os.NewFile(uintptr(3+i), name))
			}
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "end"), nil, 0o600)
}

// muteLogger never says that it is ready; it ends with its input.
func muteLogger(map[string]string) error {
	_, err := io.Copy(io.Discard, os.NewFile(3, "stdout"))
	return err
}

// stubbornLogger reads nothing and does not end when it is asked to.
func stubbornLogger(map[string]string) error {
	signal.Ignore(syscall.SIGTERM)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	os.NewFile(5, "ready").Close()
	_, err = r.Read(make([]byte, 1)) // for ever
	return err
}

// ttyRuntime does what an OCI runtime does for a terminal: it makes a pty,
// sends the master to the socket and runs a shell script on the slave.
func ttyRuntime(arg map[string]string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: arg["socket"], Net: "unix"})
	if err != nil {
		return err
	}
	switch arg["send"] {
	case "nothing":
		return conn.Close()
	case "file":
		_, _, err = conn.WriteMsgUnix([]byte("null"), unix.UnixRights(0), nil)
		return err
	}
	master, slave, err := openPty()
	if err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix([]byte("pty"), unix.UnixRights(int(master.Fd())), nil); err != nil {
		return err
	}
	conn.Close()
	master.Close()
	args := []string{"sh", "-c", arg["script"]}
	if arg["bytes"] != "" {
		args = []string{os.Args[0], "program", "burst", "bytes", arg["bytes"]}
	}
	path := map[bool]string{true: "/bin/sh", false: os.Args[0]}[args[0] == "sh"]
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{slave.Fd(), slave.Fd(), slave.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true},
	})
	if err != nil {
		return err
	}
	slave.Close()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	syscall.Exit(status.ExitStatus())
	return nil
}

func openPty() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}
