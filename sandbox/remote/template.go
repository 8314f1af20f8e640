// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"path"
	"strconv"
	"strings"

	"berth/sandbox/agentapi"
)

// resolve puts the guest's mount points into a template of containerd's mount
// manager (core/mount/manager/format.go): {{ mount 0 }} is the first mount,
// {{ overlay 1 3 }} are three of them, joined by colons, in either order.
func (l *layout) resolve(s string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		expression, after, found := strings.Cut(rest, "}}")
		if !found {
			return "", refuse("%q in a mount of the root file system has no end", s)
		}
		points, err := l.evaluate(strings.Fields(expression))
		if err != nil {
			return "", err
		}
		out.WriteString(strings.Join(points, ":"))
		s = after
	}
}

func (l *layout) evaluate(words []string) ([]string, error) {
	var numbers []int
	for _, w := range words[min(1, len(words)):] {
		n, err := strconv.Atoi(w)
		if err != nil || n < 0 || n >= len(l.points) {
			return nil, refuse("%q in a mount of the root file system: there are %d before it", words, len(l.points))
		}
		numbers = append(numbers, n)
	}
	switch {
	case len(numbers) == 1 && words[0] == "mount":
		return []string{l.points[numbers[0]]}, nil
	case len(numbers) == 2 && words[0] == "overlay":
		step := 1
		if numbers[0] > numbers[1] {
			step = -1
		}
		var points []string
		for n := numbers[0]; n != numbers[1]+step; n += step {
			points = append(points, l.points[n])
		}
		return points, nil
	}
	return nil, refuse("%q in a mount of the root file system is not known", words)
}

// directory has a mount that was made before get a directory. The value is a
// path, and a mode and an owner that may be left out: path[:mode[:uid:gid]].
func (l *layout) directory(value string) error {
	resolved, err := l.resolve(value)
	if err != nil {
		return err
	}
	parts := strings.Split(resolved, ":")
	d := &agentapi.Directory{Mode: 0o700}
	wrong := refuse("the directory %q of the root file system is not path[:mode[:uid:gid]]", value)
	if len(parts) > 4 || len(parts) == 3 {
		return wrong
	}
	for i, field := range []*uint32{nil, &d.Mode, &d.Uid, &d.Gid} {
		if i == 0 || i >= len(parts) {
			continue
		}
		base := 10
		if field == &d.Mode {
			base = 8
		}
		n, err := strconv.ParseUint(parts[i], base, 31)
		if err != nil || base == 8 && n > 0o777 {
			return wrong
		}
		*field = uint32(n)
	}
	parent, name := path.Split(path.Clean(parts[0]))
	d.Name = name
	for _, m := range l.mounts {
		if m.Target+"/" == parent {
			m.Directories = append(m.Directories, d)
			return nil
		}
	}
	return refuse("the directory %q of the root file system is not at the top of a mount before it", value)
}
