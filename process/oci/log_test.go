// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

func TestLastMessage(t *testing.T) {
	for name, tc := range map[string]struct{ log, want string }{
		"empty":              {"", ""},
		"runc":               {`{"level":"error","msg":"container does not exist","time":"2026-01-01T00:00:00Z"}`, "container does not exist"},
		"crun":               {`{"msg":"unknown option","level":"error","time":"2026-01-01T00:00:00.5Z"}` + "\n", "unknown option"},
		"youki":              {`{"timestamp":"x","level":"ERROR","fields":{"message":"no"},"target":"y"}` + "\n", "no"},
		"last of errors":     {`{"level":"error","msg":"a"}` + "\n" + `{"level":"error","msg":"b"}` + "\n", "b"},
		"warning after":      {`{"level":"error","msg":"a"}` + "\n" + `{"level":"warning","msg":"b"}` + "\n", "a"},
		"cut short after":    {`{"level":"error","msg":"a"}` + "\n" + `{"level":"error","ms`, "a"},
		"cut short at start": {`sg":"x"}` + "\n" + `{"level":"fatal","msg":"a"}`, "a"},
		"text":               {"first\n\ncould not do it\n", "could not do it"},
		"debug only":         {`{"level":"debug","msg":"a"}`, ""},
		"empty error":        {`{"level":"error","msg":"a"}` + "\n" + `{"level":"error","msg":""}`, "a"},
		"not UTF-8":          {"bad \xff byte", "bad \uFFFD byte"},
		"a number":           {"42\n", "42"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lastMessage([]byte(tc.log)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	for message, want := range map[string]error{
		"container does not exist":                                    errdefs.ErrNotFound,
		"exec failed: container does not exist":                       errdefs.ErrNotFound,
		"container `a` does not exist":                                errdefs.ErrNotFound,
		"error opening file `/r/a/status`: No such file or directory": errdefs.ErrNotFound,
		"cannot open directory '/r/a': No such file or directory":     errdefs.ErrNotFound,
		"container with given ID already exists":                      errdefs.ErrAlreadyExists,
		"runc create failed: container with given ID already exists":  errdefs.ErrAlreadyExists,
		"container `a` already exists":                                errdefs.ErrAlreadyExists,
		"container not running":                                       errdefs.ErrFailedPrecondition,
		"the container `a` is not running":                            errdefs.ErrFailedPrecondition,
		"container not paused":                                        errdefs.ErrFailedPrecondition,
		"cannot exec in a stopped container":                          errdefs.ErrFailedPrecondition,
		"cannot start an already running container":                   errdefs.ErrFailedPrecondition,
		"cannot delete container a that is not stopped: running":      errdefs.ErrFailedPrecondition,
		"unknown command checkpoint":                                  errdefs.ErrNotImplemented,
		`exec failed: unable to start container process: exec: "a": executable file not found in $PATH`:         nil,
		`runc create failed: unable to start container process: exec: "/a": stat /a: no such file or directory`: nil,
		// What the container's owner wrote does not decide.
		`exec failed: unable to start container process: exec: "container does not exist": executable file not found in $PATH`: nil,
		"executable file `container does not exist` not found in $PATH":                                                        nil,
		"": nil,
	} {
		if got := classify(message); !errors.Is(got, want) || (want == nil) != (got == nil) {
			t.Errorf("%q: got %v, want %v", message, got, want)
		}
	}
}

func FuzzLastMessage(f *testing.F) {
	f.Add([]byte(`{"level":"error","msg":"a"}` + "\n" + `{"lev`))
	f.Add([]byte("text\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"m\"}}\n[1]"))
	f.Fuzz(func(t *testing.T, log []byte) {
		m := lastMessage(log)
		if !utf8.ValidString(m) || len(m) > maxMessage+3 || m != strings.TrimSpace(m) {
			t.Errorf("message %q is not fit for a status", m)
		}
		_ = classify(m)
	})
}

func FuzzParsePid(f *testing.F) {
	f.Add([]byte("1234\n"))
	f.Add([]byte("-1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if pid, err := parsePid(data); err == nil && pid <= 1 {
			t.Errorf("%q gives pid %d", data, pid)
		}
	})
}
