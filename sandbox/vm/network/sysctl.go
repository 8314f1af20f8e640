// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"berth/sandbox/agentapi"
)

// Plugins set parameters of the kernel in the pod's network namespace. What differs
// from a namespace that nobody has touched is somebody's will, and the guest's to
// have; what is the same may be another default in the guest's kernel, and is
// nobody's.

// sysctlRoot is the namespace's of the thread that reads it.
const sysctlRoot = "/proc/sys/net"

const (
	// maxSysctls bounds what a guest is given.
	maxSysctls = 1024
	maxSysctl  = 256 // bytes of a value
)

// sysctlDirs are those whose parameters each namespace has for itself
// (Documentation/networking/ip-sysctl.rst); core and unix have a few more.
var sysctlDirs = []string{"core", "unix", "ipv4", "ipv6"}

// perInterface are directories with one for each interface.
var perInterface = []string{"ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh"}

// ownSysctls are not read: they are what the rest of the request says, what the
// kernel changes by itself, or no state at all.
var ownSysctls = []string{"accept_ra", "addr_gen_mode", "disable_ipv6", "mtu", "stable_secret", "flush"}

// sysctls are those of the namespace of the calling thread, by their place below
// sysctlRoot. Of interfaces those with these names count.
func readSysctls(interfaces []string) (map[string]string, error) {
	values := make(map[string]string)
	dirs := slices.Clone(sysctlDirs)
	for _, dir := range perInterface {
		for _, name := range append([]string{"all", "default"}, interfaces...) {
			dirs = append(dirs, filepath.Join(dir, name))
		}
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(sysctlRoot, dir))
		if errors.Is(err, fs.ErrNotExist) { // neigh/all, and ipv6 where there is none
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			// Some can only be written, or have no value yet.
			data, err := os.ReadFile(filepath.Join(sysctlRoot, dir, e.Name()))
			if e.IsDir() || err != nil || len(data) > maxSysctl || slices.Contains(ownSysctls, e.Name()) {
				continue
			}
			values[filepath.Join(dir, e.Name())] = strings.TrimSpace(string(data))
		}
	}
	return values, nil
}

// untouched are the parameters of a namespace that is new.
func untouched() (values map[string]string, _ error) {
	ns, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	err = inside(ns, func() (err error) {
		values, err = readSysctls([]string{"lo"})
		return err
	})
	return values, err
}

// sysctls finds what was set in the namespace of the calling thread.
func (s *scan) sysctls() error {
	var names []string
	for _, l := range s.links {
		names = append(names, l.api.Name)
	}
	has, err := readSysctls(names)
	if err != nil {
		return err
	}
	initial, err := untouched()
	if err != nil {
		return err
	}
	for name, value := range has {
		was, known := before(initial, name)
		// One for all interfaces sets those of each: what is as it was then has
		// been set back.
		all := filepath.Join(filepath.Dir(filepath.Dir(name)), "all/forwarding")
		forced := filepath.Base(name) == "forwarding" && has[all] != initial[all]
		if known && (was != value || forced) && writable(name) {
			s.result.Sysctls = append(s.result.Sysctls, &agentapi.Sysctl{Name: name, Value: value})
		}
	}
	if n := len(s.result.Sysctls); n > maxSysctls {
		return fmt.Errorf("%d network sysctls are set in the pod's namespace, and a guest is given %d at most: %w",
			n, maxSysctls, errdefs.ErrResourceExhausted)
	}
	slices.SortFunc(s.result.Sysctls, func(a, b *agentapi.Sysctl) int {
		if d := rank(a.Name) - rank(b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return nil
}

// before is what a parameter is in a new namespace. That of an interface is what
// others begin with, or where that is the first namespace's alone (neigh), what the
// loopback interface has.
func before(initial map[string]string, name string) (value string, ok bool) {
	dir, key := filepath.Split(name)
	for _, place := range []string{name, filepath.Join(dir, "../default", key), filepath.Join(dir, "../lo", key)} {
		if value, ok = initial[place]; ok {
			break
		}
	}
	return value, ok
}

// writable is false for what the kernel only tells.
func writable(name string) bool {
	info, err := os.Stat(filepath.Join(sysctlRoot, name))
	return err == nil && info.Mode()&0o200 != 0
}

// rank orders parameters of which some set others (ip_forward, and "all", those of
// interfaces): what concerns more comes first.
func rank(name string) int {
	switch parts := strings.Split(name, "/"); {
	case len(parts) < 4:
		return 0
	case parts[2] == "all":
		return 1
	case parts[2] == "default":
		return 2
	}
	return 3
}
