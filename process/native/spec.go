// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"

	"berth/process/oci"
)

// loadSpec reads the specification in a bundle, and refuses what the command
// line refuses.
func loadSpec(bundle string) (*specs.Spec, error) {
	const name = "config.json"
	f, err := os.Open(filepath.Join(bundle, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file %s not found", name)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var spec *linuxSpec
	if err := json.NewDecoder(f).Decode(&spec); err != nil {
		return nil, err
	}
	if spec == nil {
		return nil, errors.New("config cannot be null")
	}
	return &spec.Spec, validate(spec.Process)
}

// linuxSpec hides what a specification has for other systems: of each type that a
// value might have encoding/json makes tables, and keeps them (50 KiB of a shim).
type linuxSpec struct {
	specs.Spec
	Solaris unread `json:"solaris"`
	Windows unread `json:"windows"`
	VM      unread `json:"vm"`
	ZOS     unread `json:"zos"`
	FreeBSD unread `json:"freebsd"`
}

type unread struct{}

func (unread) UnmarshalJSON([]byte) error { return nil }

func validate(p *specs.Process) error {
	switch {
	case p == nil:
		return errors.New("process property must not be empty")
	case p.Cwd == "":
		//lint:ignore ST1005 runc's words
		return errors.New("Cwd property must not be empty")
	case !filepath.IsAbs(p.Cwd):
		//lint:ignore ST1005 runc's words
		return errors.New("Cwd must be an absolute path")
	case len(p.Args) == 0:
		return errors.New("args must not be empty")
	case p.SelinuxLabel != "" && !selinux.GetEnabled():
		return errors.New("selinux label is specified in config, but selinux is disabled or not supported")
	}
	return nil
}

// tameHooks gives the hooks that this program would run with its own
// environment, as they have none, that of the command line.
func tameHooks(hooks configs.Hooks) {
	env := []string{"PATH=" + oci.DefaultPath}
	for _, when := range []configs.HookName{configs.Prestart, configs.CreateRuntime, configs.Poststart, configs.Poststop} {
		hooks[when].SetDefaultEnv(env)
	}
}
