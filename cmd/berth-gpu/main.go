// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Command berth-gpu asks NVIDIA's management library about the GPUs, for programs that must not
// load it: it runs for one question, with an environment of its caller's making, and ends. What
// it writes is in package gpu/nvml. It also gives the driver's own programs for MPS the view of the
// file system that they need. It is linked with lazy binding, so that it starts whatever
// symbols the driver has, and looks each of them up before it calls it.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	wire "berth/gpu/nvml"
)

// Set by the linker.
var version, revision = "devel", "unknown"

const usage = `usage: berth-gpu list [--library PATH | --driver-root DIR]
       berth-gpu mig acquire|release|sweep|ls [--library PATH | --driver-root DIR] <REQUEST
       berth-gpu mps --dir DIR [--driver-root DIR] [--dev DIR] [--join FILE]... [--oom-score-adj N] PROGRAM [ARG]...
       berth-gpu --version | --help

list prints the GPUs and their MIG devices as one JSON document. mig makes MIG
instances for a container, destroys them, puts right what crashes left, shows
them: the request is one JSON document, as is the answer (package gpu/nvml).
mps becomes a program of the driver's, such as nvidia-cuda-mps-control, that sees
the driver's root with DIR as its /tmp and DIR/shm as its /dev/shm.

  --library PATH     load the driver's management library from this absolute path
  --driver-root DIR  look for it in the library folders below DIR, an absolute path
  Without either the loader finds libnvidia-ml.so.1.

Exit status: 0; 1 with {"error":{"code","symbol","message"}} and a sentence on
stderr if the driver did not answer; 2 if the command line is wrong.
`

var errUsage = errors.New("usage")

func main() {
	os.Exit(exitCode(run(os.Args[1:], os.Stdin, os.Stdout), os.Stderr))
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) == 1 && args[0] == "--version" {
		_, err := fmt.Fprintln(stdout, "berth-gpu", version, revision)
		return err
	}
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
		_, err := io.WriteString(stdout, usage)
		return err
	}
	if len(args) > 0 && args[0] == "mps" {
		return mps(args[1:]) // which does not return where it succeeds
	}
	verb, rest := question(args, stdin, stdout)
	if verb == nil {
		return fmt.Errorf("%w: no such verb: %q", errUsage, args)
	}
	var at location
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&at.library, "library", "", "")
	flags.StringVar(&at.driverRoot, "driver-root", "", "")
	if err := flags.Parse(rest); err != nil || flags.NArg() > 0 {
		return fmt.Errorf("%w: %v %q", errUsage, err, flags.Args())
	}
	if err := at.check(); err != nil {
		return err
	}
	answer, err := verb(at)
	if err != nil || answer == nil { // it was given already
		return err
	}
	return json.NewEncoder(stdout).Encode(answer)
}

// question is what the first words ask for, nil if it is none, and the words after them.
func question(args []string, stdin io.Reader, stdout io.Writer) (func(location) (any, error), []string) {
	if len(args) > 0 && args[0] == "list" {
		return func(at location) (any, error) { return ask(at, list) }, args[1:]
	}
	if len(args) < 2 || args[0] != "mig" {
		return nil, nil
	}
	if _, known := actions[args[1]]; known {
		return func(at location) (any, error) { return transact(args[1], at, stdin, stdout) }, args[2:]
	}
	return nil, nil
}

func ask(at location, verb func(*library) (any, error)) (any, error) {
	path, err := at.find()
	if err != nil {
		return nil, err
	}
	lib, err := open(path)
	if err != nil {
		return nil, err
	}
	return verb(lib)
}

func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errUsage) {
		fmt.Fprintf(stderr, "berth-gpu: %v\n%s", err, usage)
		return 2
	}
	failed := failure(err)
	_ = json.NewEncoder(stderr).Encode(wire.Failure{Error: failed})
	fmt.Fprintf(stderr, "berth-gpu: %v%s\n", err, advice(failed.Code))
	return 1
}

// failure is the error of NVML that err is, or one of the same shape.
func failure(err error) *wire.Error {
	var failed *wire.Error
	if !errors.As(err, &failed) {
		failed = &wire.Error{Code: "ERROR_OPERATING_SYSTEM", Message: err.Error()}
	}
	return failed
}
