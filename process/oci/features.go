// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
)

// FeaturesSource is the annotation of a features document that was not given by the runtime
// itself. Its value says what it was made from.
const FeaturesSource = "io.berth.features.source"

// Features is what the runtime can do, as JSON of the runtime-spec's features.Features. A
// runtime that has no `features` command (crun before 1.8.6) is given a conservative document
// by its name and version; it bears the annotation FeaturesSource.
func (c *CLI) Features(ctx context.Context) ([]byte, error) {
	out, err := c.run(ctx, &call{verb: "features"})
	if err == nil {
		var f features.Features
		if err = json.Unmarshal(out, &f); err == nil {
			return out, nil
		}
		err = fmt.Errorf("decode answer of OCI runtime features: %w", err)
	}
	if ctx.Err() != nil {
		return nil, err
	}
	version, verr := c.run(ctx, &call{verb: "--version"})
	if verr != nil {
		// Neither works: it is the runtime that is broken, and no table would be true of it.
		return nil, errors.Join(err, verr)
	}
	return json.Marshal(builtIn(string(version), recursiveReadOnly()))
}

// builtIn is what is known of a runtime by the text that its --version prints. It claims what
// every runtime that follows runtime-spec 1.0 does, and more only for versions that have it.
// Fields left out mean "unknown", which containerd takes as "no".
func builtIn(version string, kernelRRO bool) *features.Features {
	name, number, spec, flags := parseVersion(version)
	yes := true
	f := &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: "1.0.0",
		Hooks:         []string{"prestart", "poststart", "poststop"},
		MountOptions: []string{
			"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "mand", "noatime",
			"nodev", "nodiratime", "noexec", "nomand", "norelatime", "nostrictatime", "nosuid", "private",
			"rbind", "relatime", "remount", "ro", "rprivate", "rshared", "rslave", "runbindable", "rw",
			"shared", "slave", "strictatime", "suid", "sync", "unbindable",
		},
		Linux: &features.Linux{
			Namespaces: []string{"ipc", "mount", "network", "pid", "user", "uts"},
			Cgroup:     &features.Cgroup{V1: &yes},
		},
		Annotations: map[string]string{FeaturesSource: "built-in table for " + strings.TrimSpace(name+" "+number)},
	}
	if spec != "" {
		f.OCIVersionMax = spec
	}
	if name != "crun" {
		return f
	}
	// crun has had cgroup v2 and the cgroup namespace from its first release, and the hooks of
	// runtime-spec 1.0.2 since 0.12; what was compiled in follows the version in its output.
	f.Hooks = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
	f.Linux.Namespaces = append([]string{"cgroup"}, f.Linux.Namespaces...)
	f.Linux.Cgroup.V2 = &yes
	for flag, enabled := range map[string]**bool{
		"SYSTEMD":  &f.Linux.Cgroup.Systemd,
		"SECCOMP":  seccomp(f),
		"APPARMOR": apparmor(f),
		"SELINUX":  selinux(f),
	} {
		has := strings.Contains(flags+" ", "+"+flag+" ")
		*enabled = &has
	}
	// Recursive mount attributes came with crun 1.4; they need mount_setattr(2), Linux 5.12.
	if kernelRRO && atLeast(number, 1, 4) {
		f.MountOptions = append(f.MountOptions,
			"rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnoatime", "ratime",
			"rnodiratime", "rdiratime", "rrelatime", "rnorelatime", "rstrictatime", "rnostrictatime")
	}
	return f
}

func seccomp(f *features.Features) **bool {
	f.Linux.Seccomp = &features.Seccomp{}
	return &f.Linux.Seccomp.Enabled
}

func apparmor(f *features.Features) **bool {
	f.Linux.Apparmor = &features.Apparmor{}
	return &f.Linux.Apparmor.Enabled
}

func selinux(f *features.Features) **bool {
	f.Linux.Selinux = &features.Selinux{}
	return &f.Linux.Selinux.Enabled
}

// parseVersion reads "crun version 1.8.1", then lines of "key: value", of which "spec" is one,
// and a line of "+FLAG"s.
func parseVersion(text string) (name, number, spec, flags string) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case i == 0:
			name, number, _ = strings.Cut(clean(line), " version ")
		case strings.HasPrefix(line, "spec: "):
			spec = clean(strings.TrimPrefix(line, "spec: "))
		case strings.HasPrefix(line, "+"):
			flags = line
		}
	}
	return name, number, spec, flags
}

// atLeast compares the first two numbers of a version.
func atLeast(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(second)
	return err1 == nil && err2 == nil && (a > major || a == major && b >= minor)
}

// recursiveReadOnly tells whether the kernel has mount_setattr(2): with nothing to set it
// does nothing (fs/namespace.c).
func recursiveReadOnly() bool {
	return !errors.Is(unix.MountSetattr(-1, "", 0, &unix.MountAttr{}), unix.ENOSYS)
}
