// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"berth/process"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// maxLog bounds how much of a call's log is looked at, in bytes from its end: the error is
	// the last thing that a runtime writes.
	maxLog = 64 << 10
	// maxMessage bounds a message, in bytes. It travels in a ttrpc status and into events.
	maxMessage = 4 << 10
)

// callLog is the log file of one call. It is never shared: in a file used by calls that run
// side by side, the last error may be another call's (containerd #8144).
type callLog struct{ path string } // "" where there is no directory to keep it in

func newCallLog(dir, verb string) (*callLog, error) {
	if dir == "" {
		return &callLog{}, nil
	}
	f, err := os.CreateTemp(dir, ".oci-"+verb+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("make log of OCI runtime %s: %w", verb, err)
	}
	return &callLog{path: f.Name()}, f.Close()
}

func (l *callLog) remove() {
	if l.path != "" {
		_ = os.Remove(l.path)
	}
}

// read returns the end of the log. A log that cannot be read is as good as none.
func (l *callLog) read() []byte {
	f, err := os.Open(l.path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-maxLog), io.SeekStart)
	}
	data, _ := io.ReadAll(io.LimitReader(f, maxLog))
	return data
}

// silence is what there is to say of a runtime that said nothing: why that may be.
func (l *callLog) silence(exit process.Exit) string {
	text := fmt.Sprintf("exit status %d and no message", exit.Status)
	var fs unix.Statfs_t
	if l.path != "" && unix.Statfs(l.path, &fs) == nil && fs.Bavail == 0 {
		text += "; no space is left in " + filepath.Dir(l.path) + ", where its log is"
	}
	return text
}

// logLine is one line of a JSON log: as runc and crun write it, or as youki does, which has
// the message among the fields.
type logLine struct {
	Level  string `json:"level"`
	Msg    string `json:"msg"`
	Fields struct {
		Message string `json:"message"`
	} `json:"fields"`
}

// lastMessage is the message of the last error in a log. Lines that are not whole JSON
// objects are passed over, and serve only if there is no error that is one.
func lastMessage(log []byte) string {
	var text, message string
	for line := range bytes.Lines(log) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var l logLine
		if json.Unmarshal(line, &l) != nil {
			text = string(line)
			continue
		}
		switch strings.ToLower(l.Level) {
		case "error", "fatal", "panic":
			if m := l.Msg + l.Fields.Message; m != "" {
				message = m
			}
		}
	}
	if message == "" {
		message = text
	}
	return clean(message)
}

// clean makes foreign text fit to be an error message: a protobuf string must be UTF-8.
func clean(s string) string {
	s = strings.TrimSpace(strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	return s
}

// runtimeError is the error of a call that ended with exit.
func runtimeError(verb string, log *callLog, stderr []byte, exit process.Exit) error {
	message := lastMessage(log.read())
	if message == "" {
		message = lastMessage(stderr)
	}
	if message == "" {
		message = log.silence(exit)
	}
	if class := classify(message); class != nil {
		return fmt.Errorf("OCI runtime %s failed: %s: %w", verb, message, class)
	}
	return errors.New("OCI runtime " + verb + " failed: " + message)
}

// phrase is how a runtime begins and ends a message.
type phrase struct {
	begin, end string
	class      error
}

// classify turns what a runtime says about a container's state into a sentinel, or nil. It
// looks at whole messages: one about a program in the container quotes text that the
// container's owner chose, and begins differently.
func classify(message string) error {
	for _, prefix := range [...]string{"exec failed: ", "runc create failed: ", "runc restore failed: "} {
		message = strings.TrimPrefix(message, prefix) // runc puts it before whatever went wrong
	}
	for _, p := range [...]phrase{
		{"container", "does not exist", errdefs.ErrNotFound},
		{"no such container", "", errdefs.ErrNotFound},
		{"error opening file `", "/status`: No such file or directory", errdefs.ErrNotFound}, // crun
		{"cannot open directory '", "': No such file or directory", errdefs.ErrNotFound},     // crun delete
		{"container", "already exists", errdefs.ErrAlreadyExists},
		{"container", "not running", errdefs.ErrFailedPrecondition},
		{"the container", "not running", errdefs.ErrFailedPrecondition},
		{"container", "still running", errdefs.ErrFailedPrecondition},
		{"container", "not paused", errdefs.ErrFailedPrecondition},
		{"the container", "not paused", errdefs.ErrFailedPrecondition},
		{"container", "paused", errdefs.ErrFailedPrecondition},
		{"container process is already dead", "", errdefs.ErrFailedPrecondition},
		{"cannot exec in a stopped container", "", errdefs.ErrFailedPrecondition},
		{"cannot exec in a paused container", "", errdefs.ErrFailedPrecondition},
		{"cannot start a container that has stopped", "", errdefs.ErrFailedPrecondition},
		{"cannot start an already running container", "", errdefs.ErrFailedPrecondition},
		{"cannot delete container", "", errdefs.ErrFailedPrecondition},
		{"invalid container ID", "", errdefs.ErrInvalidArgument},
		{"container id cannot be empty", "", errdefs.ErrInvalidArgument},
		{"unknown command", "", errdefs.ErrNotImplemented},   // crun
		{"No help topic for", "", errdefs.ErrNotImplemented}, // runc
	} {
		if strings.HasPrefix(message, p.begin) && strings.HasSuffix(message, p.end) {
			return p.class
		}
	}
	return nil
}
