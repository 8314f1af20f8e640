// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"berth/process"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
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

// A runtime that cannot write its log has said nothing; the error says why.
func TestSilenceOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("berth-test", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	log, err := newCallLog(dir, "create")
	if err != nil {
		t.Fatal(err)
	}
	exit := process.Exit{Status: 1, Known: true}
	const silent = "OCI runtime create failed: exit status 1 and no message"
	if got := runtimeError("create", log, nil, exit).Error(); got != silent {
		t.Errorf("with room: %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	want := silent + "; no space is left in " + dir + ", where its log is"
	if got := runtimeError("create", log, nil, exit).Error(); got != want {
		t.Errorf("without: %s", got)
	}
	if got := runtimeError("create", log, []byte("the reason"), exit).Error(); got != "OCI runtime create failed: the reason" {
		t.Errorf("with a message elsewhere: %s", got)
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
