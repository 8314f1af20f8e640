// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxSpec bounds what is read of a config.json, in bytes. containerd's own
// messages end at 16 MiB, so a spec is smaller.
const maxSpec = 17 << 20

// groupAnnotations are the annotations whose value names the group that a
// container belongs to, the first that is set winning: containerd's own, the
// CRI's, CRI-O's.
var groupAnnotations = [...]string{
	"io.containerd.runc.v2.group",
	"io.kubernetes.cri.sandbox-id",
	"io.kubernetes.cri-o.SandboxID",
}

// readGroup returns the group of the container in bundle, or id if it names
// none or has no config.json yet, as a sandbox has. The group is untrusted
// text: it may only ever be hashed.
func readGroup(bundle, id string) (string, error) {
	// O_NONBLOCK: a FIFO in the place of the file must not hang containerd.
	f, err := os.OpenFile(filepath.Join(bundle, "config.json"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return "", fmt.Errorf("find the container's group: %w", err)
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", fmt.Errorf("find the container's group: %s is not a regular file: %w", f.Name(), errdefs.ErrInvalidArgument)
	}
	group, err := decodeGroup(io.LimitReader(f, maxSpec))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // there is more to a spec than nothing
	}
	if err != nil {
		return "", fmt.Errorf("find the container's group: read %s: %w: %w", f.Name(), err, errdefs.ErrInvalidArgument)
	}
	if group == "" {
		return id, nil
	}
	return group, nil
}

// decodeGroup reads a spec up to the end of its annotations and keeps
// nothing but the values that can name a group.
func decodeGroup(r io.Reader) (string, error) {
	d := json.NewDecoder(r)
	if err := expectObject(d); err != nil {
		return "", err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		if key == "annotations" {
			return decodeAnnotations(d)
		}
		if err := skipValue(d); err != nil {
			return "", err
		}
	}
	_, err := d.Token() // the closing brace, or why there is none
	return "", err
}

func decodeAnnotations(d *json.Decoder) (string, error) {
	first, err := d.Token()
	if err != nil || first == nil { // null
		return "", err
	}
	if first != json.Delim('{') {
		return "", fmt.Errorf("annotations are %v, not an object", first)
	}
	var found [len(groupAnnotations)]string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		value, err := d.Token()
		if err != nil {
			return "", err
		}
		text, ok := value.(string)
		if !ok {
			return "", fmt.Errorf("annotation %.64q is not a string", key)
		}
		for i, name := range groupAnnotations {
			if key == name {
				found[i] = text
			}
		}
	}
	if _, err := d.Token(); err != nil {
		return "", err
	}
	for _, group := range found {
		if group != "" {
			return group, nil
		}
	}
	return "", nil
}

func expectObject(d *json.Decoder) error {
	t, err := d.Token()
	if err == nil && t != json.Delim('{') {
		err = fmt.Errorf("begins with %v, not with an object", t)
	}
	return err
}

// skipValue reads one value of any kind without keeping it.
func skipValue(d *json.Decoder) error {
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
