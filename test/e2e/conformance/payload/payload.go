// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "payload:", err)
		os.Exit(125)
	}
	os.Exit(code)
}

// run carries out one verb and returns the exit code of the program.
func run(args []string) (int, error) {
	if len(args) == 0 {
		return 0, fmt.Errorf("no verb given")
	}
	switch verb, rest := args[0], args[1:]; verb {
	case "exit": // exit CODE
		return number(rest, 0)
	case "forever": // forever: until a signal ends it
		return forever()
	case "ready": // ready FIFO: open FIFO for writing, then live on
		if err := open(rest, 0, os.O_WRONLY); err != nil {
			return 0, err
		}
		return forever()
	case "gate": // gate FIFO CODE: exit when somebody opens FIFO for writing
		if err := open(rest, 0, os.O_RDONLY); err != nil {
			return 0, err
		}
		return number(rest, 1)
	case "cat": // cat: stdin to stdout until the end
		_, err := io.Copy(os.Stdout, os.Stdin)
		return 0, err
	case "burst": // burst BYTES CODE: that many bytes to stdout, then exit
		if err := burst(rest); err != nil {
			return 0, err
		}
		return number(rest, 1)
	case "hello": // hello: say so, then live on
		fmt.Println("hello")
		return forever()
	case "spam": // spam [BYTES]: to stdout, so many at a time (4096), until a write fails
		return spam(rest)
	case "orphan": // orphan READY GATE CODE: start a child "ready READY", then do "gate GATE CODE"
		return orphan(rest)
	case "logger", "logger-v2": // logger FILE: a binary:// logger, see logger.go
		return logger(rest, verb == "logger-v2")
	default:
		return 0, fmt.Errorf("no such verb: %q", verb)
	}
}

func number(args []string, at int) (int, error) {
	if len(args) <= at {
		return 0, fmt.Errorf("argument %d is missing", at+1)
	}
	return strconv.Atoi(args[at])
}

// open opens a FIFO, which is how this program tells the test, or is told by it,
// that the moment has come; a gate is read to its end. In a guest it is a file,
// which has something in it then.
func open(args []string, at, flag int) error {
	if len(args) <= at {
		return fmt.Errorf("argument %d is missing", at+1)
	}
	f, err := os.OpenFile(args[at], flag, 0)
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		return errors.Join(openFile(f, flag), f.Close())
	}
	if flag == os.O_RDONLY {
		if _, err := io.Copy(io.Discard, f); err != nil {
			return err
		}
	}
	return f.Close()
}

// openFile asks again and again: what the host writes, a guest is not told.
func openFile(f *os.File, flag int) error {
	if flag != os.O_RDONLY {
		_, err := f.Write([]byte{'.'})
		return err
	}
	for {
		n, err := f.ReadAt(make([]byte, 1), 0)
		if n == 1 || !errors.Is(err, io.EOF) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// forever exits with 128+15 on SIGTERM, which PID 1 of a namespace would not do
// by default.
func forever() (int, error) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	return 128 + int(syscall.SIGTERM), nil
}

func spam(args []string) (int, error) {
	size := 4096
	if len(args) > 0 {
		var err error
		if size, err = number(args, 0); err != nil {
			return 0, err
		}
	}
	block := bytes.Repeat([]byte("spam"), size/4)
	for {
		if _, err := os.Stdout.Write(block); err != nil {
			return 1, err
		}
	}
}

// burst writes a pattern that changes with its offset, so that a lost or
// repeated block shows in a checksum.
func burst(args []string) error {
	total, err := number(args, 0)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for written := 0; written < total; {
		n := min(len(block), total-written)
		for i := range block[:n] {
			at := written + i
			block[i] = byte(at ^ at>>8 ^ at>>16)
		}
		if _, err := os.Stdout.Write(block[:n]); err != nil {
			return err
		}
		written += n
	}
	return nil
}

// orphan leaves a child behind that is not this program's session's any more.
func orphan(args []string) (int, error) {
	if len(args) < 3 {
		return 0, fmt.Errorf("orphan: READY, GATE and CODE are needed")
	}
	child := exec.Command("/proc/self/exe", "ready", args[0])
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return 0, err
	}
	return run(append([]string{"gate"}, args[1:]...))
}
