// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// Stdio names the three streams of a process the way containerd does: "" for
// none, an absolute path (or fifo:// URI) of a FIFO, file:// for a log file,
// binary:// or binary-v2:// for a program that takes stdout and stderr.
// With a terminal there is one output stream, so Stderr is not looked at.
type Stdio struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// targetKind says what stands at the client's end of one stream.
type targetKind uint8

const (
	targetNull     targetKind = iota // nothing; the child has /dev/null
	targetPath                       // a FIFO or, for outputs, a file that exists
	targetFile                       // a file that is made on demand and appended to
	targetLogger                     // a program; ready when it closes its descriptor 5
	targetLoggerV2                   // a program; ready when it writes a byte to its descriptor 5
)

// schemes are the URI schemes that containerd's clients use. The map is never
// written to.
var schemes = map[string]targetKind{
	"fifo":      targetPath,
	"file":      targetFile,
	"binary":    targetLogger,
	"binary-v2": targetLoggerV2,
}

// target is a parsed stream name.
type target struct {
	kind targetKind
	path string   // absolute, unless kind is targetNull
	args []string // of a logger
}

func (t target) isLogger() bool { return t.kind == targetLogger || t.kind == targetLoggerV2 }

// targets parses the streams and checks that they go together.
// All errors are errdefs.ErrInvalidArgument.
func (s Stdio) targets() (stdin, stdout, stderr target, err error) {
	if stdin, err = parseTarget("stdin", s.Stdin); err != nil {
		return
	}
	if stdout, err = parseTarget("stdout", s.Stdout); err != nil {
		return
	}
	if !s.Terminal {
		if stderr, err = parseTarget("stderr", s.Stderr); err != nil {
			return
		}
	}
	switch {
	case stdin.kind != targetNull && stdin.kind != targetPath:
		err = fmt.Errorf("stdin %q: input is read from a FIFO only: %w", s.Stdin, errdefs.ErrInvalidArgument)
	case stdout.isLogger() && stderr.kind != targetNull && s.Stderr != s.Stdout,
		stderr.isLogger() && !stdout.isLogger():
		err = fmt.Errorf("stdout %q, stderr %q: a logger takes both streams, name it for both: %w",
			s.Stdout, s.Stderr, errdefs.ErrInvalidArgument)
	}
	return
}

// parseTarget reads one stream name. A plain path is taken literally, so it may
// hold any character; in a URI the usual escapes apply.
func parseTarget(stream, name string) (target, error) {
	invalid := func(why string) (target, error) {
		return target{}, fmt.Errorf("%s %q: %s: %w", stream, name, why, errdefs.ErrInvalidArgument)
	}
	if name == "" {
		return target{}, nil
	}
	if strings.ContainsRune(name, 0) {
		return invalid("a path cannot hold a NUL byte")
	}
	if name[0] == '/' {
		return target{kind: targetPath, path: name}, nil
	}
	if !strings.Contains(name, "://") {
		return invalid("neither an absolute path nor a URI")
	}
	u, err := url.Parse(name)
	if err != nil {
		return invalid("not a URI")
	}
	kind, ok := schemes[u.Scheme]
	switch {
	case !ok:
		return invalid("unknown scheme; known are fifo, file, binary and binary-v2")
	case u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/"):
		return invalid("the path is not absolute; write " + u.Scheme + ":///path")
	case strings.ContainsRune(u.Path, 0):
		return invalid("a path cannot hold a NUL byte")
	}
	t := target{kind: kind, path: u.Path}
	if t.isLogger() {
		if t.args, err = loggerArgs(u.RawQuery); err != nil {
			return invalid(err.Error())
		}
	}
	return t, nil
}

// loggerArgs turns a query into arguments: key, value, key, value, in the
// order of the URI; a key without a value is followed by an empty argument,
// because that is what loggers get from containerd's own shim.
func loggerArgs(query string) ([]string, error) {
	var args []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		for _, part := range []string{key, value} {
			arg, err := url.QueryUnescape(part)
			if err != nil || strings.ContainsRune(arg, 0) {
				return nil, fmt.Errorf("argument %q is not well escaped", part)
			}
			args = append(args, arg)
		}
	}
	return args, nil
}
