// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one cgroup or cgroup2 line of /proc/self/mountinfo (proc(5)).
type mount struct {
	root    string   // directory of the hierarchy that is mounted; "/" unless nested
	point   string   // where it is mounted
	device  uint64   // st_dev of what is in it
	unified bool     // file system type cgroup2
	options []string // super options; on v1 they name the controllers
}

// mountLine is the longest line of interest in bytes. Overlay mounts have longer
// ones, cgroup mounts do not.
const mountLine = 8 << 10

// mounts reads the cgroup mounts of the caller's mount namespace.
func (v view) mounts() ([]mount, error) {
	f, err := os.Open(filepath.Join(v.root, "/proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	defer f.Close()
	mounts, err := parseMounts(f)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return mounts, nil
}

// parseMounts reads the cgroup mounts out of a mountinfo text, in its order. It
// goes line by line: on a host with many containers the text is a megabyte.
func parseMounts(text io.Reader) ([]mount, error) {
	cgroupType := []byte(" - cgroup") // before the file system's type, or in a name
	var found []mount
	lines := bufio.NewReaderSize(text, mountLine)
	for {
		line, more, err := lines.ReadLine()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if more {
			for more && err == nil {
				_, more, err = lines.ReadLine()
			}
			continue
		}
		if !bytes.Contains(line, cgroupType) { // nearly all of them
			continue
		}
		if m, ok := parseMount(string(line)); ok {
			found = append(found, m)
		}
	}
}

// parseMount reads one line; ok is false for what is no usable cgroup mount.
func parseMount(line string) (_ mount, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	if !ok {
		return mount{}, false
	}
	// 31 23 0:28 <root> <point> <options> <optional fields>
	fields, tail := strings.Fields(before), strings.Fields(after)
	if len(fields) < 6 || len(tail) < 3 || tail[0] != "cgroup" && tail[0] != "cgroup2" {
		return mount{}, false
	}
	var major, minor uint32
	if n, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); n != 2 || err != nil {
		return mount{}, false
	}
	m := mount{
		root: unescape(fields[3]), point: filepath.Clean(unescape(fields[4])),
		device: unix.Mkdev(major, minor), unified: tail[0] == "cgroup2",
	}
	if !filepath.IsAbs(m.point) || !filepath.IsAbs(m.root) || leavesRoot(m.root) {
		return mount{}, false // a mount from outside the caller's cgroup namespace
	}
	m.root = filepath.Clean(m.root)
	if !m.unified {
		m.options = strings.Split(tail[2], ",")
	}
	return m, true
}

// carries reports whether the mount is of controller's hierarchy.
func (m mount) carries(controller string) bool {
	if controller == Unified {
		return m.unified
	}
	return !m.unified && slices.Contains(m.options, controller)
}

// dir is the absolute directory of the cgroup at path, if the mount shows it.
// In a container whose cgroup mounts are bind mounts of its own directory,
// paths of /proc/<pid>/cgroup start with the mount's root, which is not part of
// the path below the mount point.
func (m mount) dir(path string) (string, bool) {
	if !encloses(m.root, path) {
		return "", false
	}
	return filepath.Join(m.point, strings.TrimPrefix(path, m.root)), true
}

// versionOf tells the host's interface by its mounts: named hierarchies carry
// no controller and do not make a host v1.
func versionOf(mounts []mount) Version {
	var controllers, unified bool
	for _, m := range mounts {
		switch {
		case m.unified:
			unified = true
		case !slices.ContainsFunc(m.options, func(o string) bool { return strings.HasPrefix(o, "name=") }):
			controllers = true
		}
	}
	switch {
	case controllers && unified:
		return Hybrid
	case unified:
		return V2
	default:
		return V1
	}
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// readFile reads a file of the viewed host.
func (v view) readFile(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(v.root, path))
}
