// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"berth/configs"
)

const checkUsage = `usage: berth check [--dir DIR]

Says how runc is driven on this host, and which version of runc's library each
shim that is installed has in it, and the agent of guests, of which the guest
image has a copy as old as the image.

`

// runcModule is what the build information of a shim names runc's library by.
const runcModule = "github.com/opencontainers/runc"

// agentProgram is what `berth guest build` puts into the image.
const agentProgram = "berth-agent"

func runCheck(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("berth check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, checkUsage)
		flags.PrintDefaults()
	}
	dir := flags.String("dir", "", "where the shims are installed; where this program is if empty")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil || flags.NArg() > 0 {
		return errUsage
	}
	if *dir == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the shims beside this program: %w", err)
		}
		*dir = filepath.Dir(self)
	}
	path := configs.ShimPath(os.Getenv)
	conf, err := configs.LoadShim(path)
	if err != nil {
		return err
	}
	how := "by the library in the shim"
	if conf.Runtime.Driver == configs.Command {
		how = "by the command line of the runc in containerd's PATH"
	}
	if _, err := fmt.Fprintf(stdout, "runtime.driver is %q (%s): runc is driven %s, unless options name a BinaryName\n", conf.Runtime.Driver, path, how); err != nil {
		return err
	}
	return printShims(*dir, stdout)
}

// printShims reads the shims' files, and runs none.
func printShims(dir string, stdout io.Writer) error {
	found := false
	for _, name := range []string{"containerd-shim-pod-v2", "containerd-shim-gpu-v2", agentProgram} {
		version, err := libraryOf(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		found = found || name != agentProgram
		if _, err := fmt.Fprintf(stdout, "%s has runc's library %s\n", filepath.Join(dir, name), version); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no shim is in %s: name the directory by --dir", dir)
	}
	return nil
}

// libraryOf is the version of runc's library that is linked into a program.
func libraryOf(path string) (string, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read which library a shim has: %w", err)
	}
	for _, m := range info.Deps {
		if m.Path == runcModule {
			if m.Replace != nil {
				m = m.Replace
			}
			return strings.TrimPrefix(m.Version, "v"), nil
		}
	}
	return "", fmt.Errorf("%s has no library of runc's in it: it is of an earlier Berth, or built in another way", path)
}
