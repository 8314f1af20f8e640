// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
)

var errHelp = flag.ErrHelp

// flags is the command line as containerd 1.7 to 2.4 write it. The names are
// the protocol's; both -x and --x are understood.
type flags struct {
	namespace, id, bundle  string
	address, publishBinary string
	socket, debugSocket    string
	debug, version, info   bool
	ownMounts              bool   // `start` says so, never containerd
	group                  string // as ownMounts
	action                 string
}

func parseFlags(args []string) (*flags, error) {
	f := new(flags)
	set := flag.NewFlagSet("shim", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.namespace, "namespace", "", "")
	set.StringVar(&f.id, "id", "", "")
	set.StringVar(&f.bundle, "bundle", "", "")
	set.StringVar(&f.address, "address", "", "")
	set.StringVar(&f.publishBinary, "publish-binary", "", "")
	set.StringVar(&f.socket, "socket", "", "")
	set.StringVar(&f.debugSocket, "debug-socket", "", "")
	set.BoolVar(&f.debug, "debug", false, "")
	set.BoolVar(&f.version, "v", false, "")
	set.BoolVar(&f.version, "version", false, "")
	set.BoolVar(&f.ownMounts, ownMountsFlag, false, "")
	set.StringVar(&f.group, "group", "", "")
	set.BoolVar(&f.info, "info", false, "")
	if len(args) > 0 {
		args = args[1:]
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 1 {
		return nil, fmt.Errorf("%q follows the action %q; flags come before it", set.Arg(1), set.Arg(0))
	}
	f.action = set.Arg(0)
	return f, nil
}

// named tells whether any flag says whose shim this is to be.
func (f *flags) named() bool {
	return f.namespace != "" || f.id != "" || f.socket != ""
}

// check refuses names that are not one path component: they become part of a
// path, or of what a socket's name is computed from.
func (f *flags) check() error {
	return errors.Join(checkName("-namespace", f.namespace), checkName("-id", f.id))
}

func checkName(name, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s is missing: %w", name, errdefs.ErrInvalidArgument)
	case value == ".", value == "..", strings.ContainsAny(value, "/\x00"):
		return fmt.Errorf("%s is %q: it must not be a path: %w", name, value, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (e *Env) usage(w io.Writer) {
	fmt.Fprintf(w, `%[1]s is a containerd shim: containerd runs it, not a person.

Put it in containerd's PATH and ask for the runtime %[2]s:

  ctr run --rm --runtime %[2]s IMAGE NAME
  or, for Kubernetes, [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.pod]
  with runtime_type = "%[2]s" in containerd's config.toml.

What a person may run:

  %[1]s -v       print the version
  %[1]s -info    print a containerd.types.RuntimeInfo message (protobuf);
        the runtime's options may be on stdin (google.protobuf.Any)

What containerd runs, in the bundle's directory:

  %[1]s FLAGS start     start a shim, or join the one of the same group
  %[1]s FLAGS delete    clean up after a shim that has gone
  %[1]s FLAGS           be the shim (listening socket as descriptor 3)

  -namespace NAME        containerd's namespace (required)
  -id ID                 the container (required)
  -bundle DIR            its bundle; the working directory if not given
  -address PATH          containerd's gRPC socket
  -publish-binary PATH   accepted and not used: events go to $TTRPC_ADDRESS
  -socket PATH           listen there instead of on descriptor 3
  -debug-socket PATH     accepted and not used: there is no debug service;
                         SIGUSR1 writes all goroutine stacks to the log
  -debug                 verbose log
  -group node            serve all pods of the namespace; ID is just the first
`, e.Name, e.RuntimeType)
}
