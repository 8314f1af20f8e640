// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

// ParseTOML reads runtime options as an operator writes them in the table
// [plugins.….runtimes.NAME.options] of containerd's configuration, which is
// how containerd hands them on to a shim that is not its own.
//
// That table is flat, so this reads the part of TOML 1.0 that a flat table
// needs, one `key = value` a line with a boolean, an integer or a string of
// one line, and refuses the rest; a whole TOML decoder would add some 340
// KiB to every shim. The error is errdefs.ErrInvalidArgument and names the
// line.
func ParseTOML(text []byte) (Runtime, error) {
	var r Runtime
	fields := r.fields()
	seen := make(map[string]bool)
	for n, line := range strings.Split(string(text), "\n") {
		key, value, err := parseLine(line)
		if err == nil && key != "" {
			if seen[key] {
				err = fmt.Errorf("option %.64q is set twice", key)
			} else {
				seen[key] = true
				err = fields.set(key, value)
			}
		}
		if err != nil {
			return Runtime{}, fmt.Errorf("line %d: %w: %w", n+1, err, errdefs.ErrInvalidArgument)
		}
	}
	return r, nil
}

// field is one known key, and where its value goes: a *bool, *uint32 or
// *string, or nil for what is understood only as long as it is not set.
type field struct {
	name string
	into any
}

type fields []field

// fields are spelled as containerd's documentation (docs/cri/config.md) and
// `containerd config default` spell them.
func (r *Runtime) fields() fields {
	return fields{
		{"BinaryName", &r.BinaryName},
		{"CriuImagePath", &r.CriuImagePath},
		{"CriuWorkPath", &r.CriuWorkPath},
		{"IoGid", &r.IOGID},
		{"IoUid", &r.IOUID},
		{"NoNewKeyring", &r.NoNewKeyring},
		{"NoPivotRoot", &r.NoPivotRoot},
		{"Root", &r.Root},
		{"ShimCgroup", &r.ShimCgroup},
		{"SystemdCgroup", &r.SystemdCgroup},
		// In the defaults of some containerd, without effect there too.
		{"CriuPath", nil},
		{"TaskApiAddress", nil},
		{"TaskApiVersion", nil},
		// Says what the table holds; see set.
		{"TypeUrl", nil},
	}
}

// runcTypeURL is the TypeUrl that says what a table of these options holds.
const runcTypeURL = "containerd.runc.v1.Options"

func (fs fields) set(key string, value any) error {
	for _, f := range fs {
		if f.name == key {
			return f.set(value)
		}
	}
	var known []string
	for _, f := range fs {
		if f.into != nil {
			known = append(known, f.name)
		}
	}
	return fmt.Errorf("option %.64q is not known; known are %s", key, strings.Join(known, ", "))
}

func (f field) set(value any) error {
	ok := false
	switch into := f.into.(type) {
	case *bool:
		*into, ok = value.(bool)
		return wrongType(ok, f.name, "true or false")
	case *string:
		*into, ok = value.(string)
		return wrongType(ok, f.name, "a string")
	case *uint32:
		var n int64
		if n, ok = value.(int64); ok && n >= 0 && n <= 1<<32-1 {
			*into = uint32(n)
			return nil
		}
		return wrongType(false, f.name, "an integer from 0 to 4294967295")
	}
	if value == "" || value == int64(0) || f.name == "TypeUrl" && value == runcTypeURL {
		return nil
	}
	return fmt.Errorf("option %s is not supported; remove it, or leave it empty", f.name)
}

func wrongType(ok bool, name, want string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("option %s must be %s", name, want)
}

// parseLine returns no key for a line that is empty or a comment. The value is
// a bool, an int64 or a string.
func parseLine(line string) (key string, value any, err error) {
	line = strings.TrimSuffix(line, "\r")
	if !utf8.ValidString(line) {
		return "", nil, errors.New("the text is not UTF-8")
	}
	rest := strings.TrimLeft(line, " \t")
	if rest == "" || rest[0] == '#' {
		return "", nil, nil
	}
	if rest[0] == '[' {
		return "", nil, fmt.Errorf("there is a table %.64q; options are not in tables of their own", rest)
	}
	if key, rest, err = parseKey(rest); err != nil {
		return "", nil, err
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "=")
	if !ok {
		return "", nil, fmt.Errorf("after %.64q there is no '='", key)
	}
	value, rest, err = parseValue(strings.TrimLeft(rest, " \t"))
	if err != nil {
		return "", nil, fmt.Errorf("option %.64q: %w", key, err)
	}
	if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#' {
		return "", nil, fmt.Errorf("option %.64q: %.64q follows the value", key, rest)
	}
	return key, value, nil
}

// parseKey also takes a dotted key as one, so that it is named as a whole when
// it turns out not to be known.
func parseKey(s string) (key, rest string, err error) {
	if s[0] == '"' || s[0] == '\'' {
		return parseString(s)
	}
	end := 0
	for end < len(s) && isBare(s[end]) {
		end++
	}
	if end == 0 {
		return "", "", fmt.Errorf("%.64q does not begin with a key", s)
	}
	return s[:end], s[end:], nil
}

func isBare(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' || b == '.'
}

func parseValue(s string) (value any, rest string, err error) {
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		return parseString(s)
	}
	end := strings.IndexAny(s, " \t#")
	if end < 0 {
		end = len(s)
	}
	word, rest := s[:end], s[end:]
	switch word {
	case "true":
		return true, rest, nil
	case "false":
		return false, rest, nil
	}
	digits := strings.TrimLeft(word, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return nil, "", fmt.Errorf("the number %.64q begins with a zero", word)
	}
	n, err := strconv.ParseInt(word, 0, 64)
	if err != nil {
		return nil, "", fmt.Errorf("%.64q is neither true, false, an integer nor a string in quotes", word)
	}
	return n, rest, nil
}

// parseString reads a string of one line: a literal one in single quotes or a
// basic one, with escapes, in double quotes.
func parseString(s string) (text, rest string, err error) {
	quote := s[:1]
	if strings.HasPrefix(s, quote+quote+quote) {
		return "", "", errors.New("a string of several lines is not supported")
	}
	if quote == "'" {
		text, rest, ok := strings.Cut(s[1:], quote)
		if !ok {
			return "", "", errors.New("a string has no end")
		}
		return text, rest, nil
	}
	end := 1
	for end < len(s) && s[end] != '"' {
		if s[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(s) {
		return "", "", errors.New("a string has no end")
	}
	text, err = unescape(s[1:end])
	return text, s[end+1:], err
}

// unescape undoes the escapes of a basic string. They are Go's, save that TOML
// has fewer.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for s != "" {
		if s[0] == '\\' && (len(s) < 2 || !strings.Contains(`btnfruU"\`, s[1:2])) {
			return "", fmt.Errorf("%.8q is not an escape", s)
		}
		r, _, tail, err := strconv.UnquoteChar(s, '"')
		if err != nil {
			return "", fmt.Errorf("%.12q is not an escape", s)
		}
		b.WriteRune(r)
		s = tail
	}
	return b.String(), nil
}
