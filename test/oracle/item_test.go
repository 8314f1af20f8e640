// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu"
)

// items are what a container gets: what it is, and how. In both, $V stands for the driver's
// version, $LIB for the directory where the container has the libraries, and $LIB32 likewise.
//
//	device /dev/nvidia0                   c 195:0 rw-rw-rw- 0:0, may rwm
//	file /usr/bin/nvidia-smi              at /usr/bin/nvidia-smi ro,nosuid,…   (host's path below the driver root)
//	link $LIB/libcuda.so                  to libcuda.so.1
//	env NVIDIA_VISIBLE_DEVICES            void
//	loader $LIB                           yes
//	profile /etc/nvidia/…                 yes   (written into the container)
//	hook update-ldcache                   createContainer
type items map[string]string

const yes = "yes"

// view turns the specs of one machine into items.
type view struct {
	m    machine
	libs *strings.Replacer // of the one who made the spec
}

// spec takes what both have in their specs.
func (v view) spec(t *testing.T, s *rspec.Spec) items {
	t.Helper()
	out := make(items)
	add := func(kind, name, value string) { out.add(t, v.short(kind+" "+name), v.short(value)) }
	for _, d := range s.Linux.Devices {
		add("device", d.Path, node(d)+", may "+access(s.Linux.Resources.Devices, d))
	}
	for _, m := range s.Mounts {
		options := slices.Sorted(slices.Values(m.Options))
		add("file", v.host(t, m.Source), "at "+v.libs.Replace(m.Destination)+" "+strings.Join(options, ","))
	}
	for _, e := range s.Process.Env {
		name, value, _ := strings.Cut(e, "=")
		add("env", name, v.libs.Replace(value))
	}
	for _, g := range s.Process.User.AdditionalGids {
		add("group", fmt.Sprint(g), yes)
	}
	return out
}

func (o items) add(t *testing.T, name, value string) {
	t.Helper()
	if old, had := o[name]; had && old != value {
		t.Errorf("twice: %s: %s, and %s", name, old, value)
	}
	o[name] = value
}

func node(d rspec.LinuxDevice) string {
	mode, uid, gid := os.FileMode(0), uint32(0), uint32(0)
	if d.FileMode != nil {
		mode = d.FileMode.Perm()
	}
	if d.UID != nil {
		uid = *d.UID
	}
	if d.GID != nil {
		gid = *d.GID
	}
	return fmt.Sprintf("%s %d:%d %s %d:%d", d.Type, d.Major, d.Minor, mode.String()[1:], uid, gid)
}

// access is what the device cgroup allows.
func access(rules []rspec.LinuxDeviceCgroup, d rspec.LinuxDevice) string {
	for _, r := range rules {
		if r.Allow && r.Type == d.Type && r.Major != nil && *r.Major == d.Major && r.Minor != nil && *r.Minor == d.Minor {
			return r.Access
		}
	}
	return "nothing"
}

// host is a host's path as it is below the driver root, by its name without symlinks.
func (v view) host(t *testing.T, source string) string {
	t.Helper()
	if strings.HasPrefix(source, v.m.roots.Run+"/") {
		return "(a tree of links)" // made when the plan is carried out
	}
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		t.Error(err)
	}
	return "/" + strings.TrimPrefix(strings.TrimPrefix(real, strings.TrimSuffix(v.m.roots.Driver, "/")), "/")
}

func (v view) short(s string) string { return strings.ReplaceAll(s, v.m.version, "$V") }

// oursIn are the items of Berth's spec and plan.
func oursIn(t *testing.T, m machine, s *rspec.Spec, plan []gpu.Entry) items {
	t.Helper()
	v := view{m, strings.NewReplacer("/usr/local/nvidia/lib64", "$LIB", "/usr/local/nvidia/lib", "$LIB32")}
	out := v.spec(t, s)
	for _, e := range plan {
		switch e.Kind {
		case "link":
			out.add(t, v.short("link "+v.libs.Replace(e.Path)), v.short("to "+e.From))
		case "file":
			out.add(t, "profile "+e.Path, yes)
		case "loader":
			out.add(t, "loader "+v.libs.Replace(e.Path), yes)
		}
	}
	return out
}

// theirsIn are the items of a spec that nvcdi has edited. Its libraries have the places that they
// have on the host, but for the X server's modules.
func theirsIn(t *testing.T, m machine, s *rspec.Spec) items {
	t.Helper()
	out := view{m, strings.NewReplacer(m.libDir+"/nvidia/xorg", m.libDir+"/nvidia/xorg", m.libDir, "$LIB")}.spec(t, s)
	if s.Hooks == nil {
		return out
	}
	v := view{m: m}
	for at, list := range map[string][]rspec.Hook{"createContainer": s.Hooks.CreateContainer, "createRuntime": s.Hooks.CreateRuntime} {
		for _, h := range list {
			out.add(t, "hook "+h.Args[1], at)
			if h.Args[1] == "update-application-profile" && hasGPU(s) {
				out.add(t, "profile /etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf", yes)
			}
			for _, link := range valuesOf(h, "link") {
				target, name, _ := strings.Cut(link, "::")
				// nvcdi leaves the dev root before the names of DRM's links, for nvidia-ctk to take away.
				name = strings.TrimPrefix(name, strings.TrimSuffix(filepath.Dir(m.roots.Dev), "/"))
				out.add(t, v.short("link "+m.lib(name)), v.short("to "+target))
			}
			for _, dir := range valuesOf(h, "folder") {
				out.add(t, "loader "+path.Dir(m.lib(dir+"/x")), yes)
			}
		}
	}
	return out
}

// lib shortens the path of a library that has its host's place.
func (m machine) lib(p string) string {
	rest, ok := strings.CutPrefix(p, m.libDir)
	if ok && slices.Contains([]string{"/", "/vdpau/", "/gbm/"}, rest[:strings.LastIndex(rest, "/")+1]) {
		return "$LIB" + rest
	}
	return p
}

// hasGPU is what update-application-profile looks for.
func hasGPU(s *rspec.Spec) bool {
	return slices.ContainsFunc(s.Linux.Devices, func(d rspec.LinuxDevice) bool {
		return regexp.MustCompile("^/dev/nvidia[0-9]+$").MatchString(d.Path)
	})
}

// valuesOf collects the values of a flag that is given as two arguments.
func valuesOf(h rspec.Hook, name string) (values []string) {
	for i, arg := range h.Args {
		if arg == "--"+name {
			values = append(values, h.Args[i+1])
		}
	}
	return values
}

// difference is of one item; a side that does not have it is "–".
type difference struct{ what, nvcdi, berth string }

func (d difference) String() string { return d.what + ": nvcdi " + d.nvcdi + ", Berth " + d.berth }

const absent = "–"

func compare(nvcdi, berth items) (out []difference) {
	names := make(map[string]bool)
	for _, side := range []items{nvcdi, berth} {
		for name := range side {
			names[name] = true
		}
	}
	has := func(side items, name string) string {
		if value, ok := side[name]; ok {
			return value
		}
		return absent
	}
	for name := range names {
		if d := (difference{name, has(nvcdi, name), has(berth, name)}); d.nvcdi != d.berth {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b difference) int { return strings.Compare(a.what, b.what) })
	return out
}

// glob has * stand for any text.
func glob(pattern, text string) bool {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
	return regexp.MustCompile("^" + quoted + "$").MatchString(text)
}
