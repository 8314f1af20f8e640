// SPDX-License-Identifier: Apache-2.0

// Command cmd is the fake OCI runtime; berth/test/fakeoci says what it does.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"berth/test/fakeoci"
)

// version is what --version prints, in runc's form.
const version = "fakeoci version 1.0.0\nspec: 1.0.2\n"

// invocation is one parsed command line and what it made.
type invocation struct {
	root, log string
	verb, id  string
	flags     map[string]string
	rest      []string // positional, after the id
	bundle    string
	plan      fakeoci.Plan
	do        fakeoci.Verb // what the plan says of this verb
	stdin     string
	made      int
}

// boolean are the flags that take no value.
var boolean = map[string]bool{
	"systemd-cgroup": true, "debug": true, "version": true, "detach": true, "d": true, "force": true, "f": true,
	"all": true, "a": true, "no-pivot": true, "no-new-keyring": true, "no-subreaper": true, "leave-running": true,
	"tcp-established": true, "ext-unix-sk": true, "shell-job": true, "file-locks": true, "tty": true, "t": true,
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		os.Exit(child())
	}
	if filepath.Base(os.Args[0]) == "fake" {
		os.Exit(script(os.Args[1:])) // the program itself, in a container of a real runtime
	}
	inv, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(inv.run())
}

func parse(args []string) (*invocation, error) {
	inv := &invocation{flags: map[string]string{}, root: "/run/fakeoci"}
	var words []string
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if !strings.HasPrefix(args[i], "-") || args[i] == "-" {
			words = append(words, args[i])
			continue
		}
		if !has && !boolean[name] {
			if i++; i >= len(args) {
				return nil, fmt.Errorf("flag needs an argument: -%s", name)
			}
			value = args[i]
		}
		inv.flags[name] += value
	}
	if v, ok := inv.flags["root"]; ok {
		inv.root = v
	}
	inv.log = inv.flags["log"]
	if _, ok := inv.flags["version"]; ok {
		words = []string{"version"}
	}
	if len(words) == 0 {
		return nil, errors.New("no command")
	}
	inv.verb = words[0]
	if len(words) > 1 {
		inv.id, inv.rest = words[1], words[2:]
	}
	return inv, nil
}

func (inv *invocation) key() string {
	if inv.verb == "exec" {
		return "exec:" + strings.TrimPrefix(strings.TrimSuffix(filepath.Base(inv.flags["pid-file"]), ".pid"), ".exec-")
	}
	return inv.verb
}

// run does the verb as the plan has it and returns the exit code.
func (inv *invocation) run() int {
	if err := inv.findPlan(); err != nil {
		return inv.fail(&fakeoci.Fail{Message: err.Error()})
	}
	inv.record("begin", 0)
	code := inv.perform()
	inv.record("end", code)
	return code
}

func (inv *invocation) perform() int {
	do := inv.do
	if do.Reached != "" {
		touch(do.Reached)
	}
	if do.Before != "" {
		await(do.Before)
	}
	if do.Hang == "before" {
		forever()
	}
	if do.Stderr > 0 {
		fmt.Fprint(os.Stderr, strings.Repeat("rubbish ", do.Stderr/8+1)[:do.Stderr])
	}
	if do.Fail != nil && !do.Fail.AfterWork {
		return inv.fail(do.Fail)
	}
	work, ok := verbs[inv.verb]
	if !ok {
		fmt.Fprintf(os.Stderr, "unknown command %s\n", inv.verb)
		return 1
	}
	if err := work(inv); err != nil {
		return inv.fail(&fakeoci.Fail{Message: err.Error()})
	}
	if do.Worked != "" {
		touch(do.Worked)
	}
	if do.Hang == "after" {
		forever()
	}
	if do.After != "" {
		await(do.After)
	}
	if do.Fail != nil {
		return inv.fail(do.Fail)
	}
	return 0
}

// fail says what is wrong as runc does: a line in the JSON log, and the text on stderr.
func (inv *invocation) fail(f *fakeoci.Fail) int {
	code := f.ExitCode
	if code == 0 {
		code = 1
	}
	if f.Silent {
		return code
	}
	line := f.RawLog
	if line == "" {
		data, _ := json.Marshal(map[string]string{"level": "error", "msg": f.Message, "time": "2020-01-01T00:00:00Z"})
		line = string(data) + "\n"
	}
	if inv.log != "" {
		appendTo(inv.log, line)
	}
	if f.Message != "" {
		fmt.Fprintln(os.Stderr, f.Message)
	}
	return code
}
