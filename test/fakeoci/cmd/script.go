// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// script runs the steps of a "fake" program, separated by ";", and returns the exit code.
func script(words []string) int {
	for len(words) > 0 {
		switch words[0] {
		case ";":
			words = words[1:]
			continue
		case "spawn":
			return started(words[1:], false)
		case "fork", "orphan":
			end := slices.Index(words, "endfork")
			if end < 0 {
				end = len(words) - 1
			}
			steps := words[1 : end+1]
			if words[end] == "endfork" {
				steps = words[1:end]
			}
			if code := started(steps, words[0] == "orphan"); code != 0 {
				return code
			}
			words = words[end+1:]
			continue
		}
		end := slices.Index(words, ";")
		if end < 0 {
			end = len(words)
		}
		if code, done := step(words[0], words[1:end]); done {
			return code
		}
		words = words[end:]
	}
	return 0
}

// started runs steps in a process of their own, which keeps the stdio.
func started(steps []string, orphan bool) int {
	l := &launch{Args: append([]string{"fake"}, steps...), Double: orphan}
	if _, err := spawn(l, os.Environ(), []*os.File{os.Stdin, os.Stdout, os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 126
	}
	return 0
}

func step(name string, args []string) (code int, done bool) {
	arg := ""
	if len(args) > 0 {
		arg = args[0]
	}
	n, _ := strconv.Atoi(arg)
	switch name {
	case "exit":
		return n, true
	case "die":
		signal.Reset(unix.Signal(n))
		_ = unix.Kill(os.Getpid(), unix.Signal(n))
		forever()
	case "sleep":
		forever()
	case "ignore":
		signal.Ignore()
	case "print":
		fmt.Println(arg)
	case "eprint":
		fmt.Fprintln(os.Stderr, arg)
	case "burst":
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		for n > 0 {
			m, err := os.Stdout.Write(chunk[:min(n, len(chunk))])
			if err != nil {
				return 1, true
			}
			n -= m
		}
	case "cat":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			return 1, true
		}
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
	case "touch":
		touch(arg)
	case "await":
		await(arg)
	default:
		fmt.Fprintf(os.Stderr, "fake: unknown step %q\n", name)
		return 127, true
	}
	return 0, false
}
