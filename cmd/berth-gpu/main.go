// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Command berth-gpu asks NVIDIA's management library about the GPUs, for programs that must not
// load it: it runs for one question, with an environment of its caller's making, and ends. What
// it writes is in package gpu/nvml. It is linked with lazy binding, so that it starts whatever
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
       berth-gpu --version | --help

list prints the GPUs and their MIG devices as one JSON document.

  --library PATH     load the driver's management library from this absolute path
  --driver-root DIR  look for it in the library folders below DIR, an absolute path
  Without either the loader finds libnvidia-ml.so.1.

Exit status: 0; 1 with {"error":{"code","symbol","message"}} and a sentence on
stderr if the driver did not answer; 2 if the command line is wrong.
`

// verbs are the questions, one file each.
var verbs = map[string]func(*library) (any, error){"list": list}

var errUsage = errors.New("usage")

func main() {
	os.Exit(exitCode(run(os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && args[0] == "--version" {
		_, err := fmt.Fprintln(stdout, "berth-gpu", version, revision)
		return err
	}
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
		_, err := io.WriteString(stdout, usage)
		return err
	}
	if len(args) == 0 || verbs[args[0]] == nil {
		return fmt.Errorf("%w: no such verb: %q", errUsage, args)
	}
	var at location
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&at.library, "library", "", "")
	flags.StringVar(&at.driverRoot, "driver-root", "", "")
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		return fmt.Errorf("%w: %v %q", errUsage, err, flags.Args())
	}
	if err := at.check(); err != nil {
		return err
	}
	answer, err := ask(at, verbs[args[0]])
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(answer)
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
	var failure *wire.Error
	if !errors.As(err, &failure) {
		failure = &wire.Error{Code: "ERROR_OPERATING_SYSTEM", Message: err.Error()}
	}
	_ = json.NewEncoder(stderr).Encode(wire.Failure{Error: failure})
	fmt.Fprintf(stderr, "berth-gpu: %v%s\n", err, advice(failure.Code))
	return 1
}
