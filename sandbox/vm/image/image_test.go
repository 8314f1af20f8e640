// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestOpen(t *testing.T) {
	const good = `{"kernel": "vmlinux-1", "initramfs": "initramfs-1", "release": "6.1.0", "modules": ["virtio"]}`
	for name, c := range map[string]struct {
		description string
		files       []string
		says        string // "" is success
	}{
		"whole":            {good, []string{"vmlinux-1", "initramfs-1"}, ""},
		"no image":         {"", nil, "berth guest build"},
		"a file has gone":  {good, []string{"vmlinux-1"}, "not whole"},
		"no JSON":          {"vmlinux-1", nil, "is not right"},
		"a path leads out": {`{"kernel": "../vmlinux", "initramfs": "initramfs-1"}`, []string{"initramfs-1"}, `"../vmlinux"`},
		"nothing is named": {`{}`, nil, `the file ""`},
		"much too long":    {strings.Repeat(" ", maxDescription+1), nil, "no description"},
		"a directory":      {`{"kernel": "vmlinux-1", "initramfs": "."}`, []string{"vmlinux-1"}, "no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.description != "" {
				write(t, filepath.Join(dir, Description), c.description)
			}
			for _, f := range c.files {
				write(t, filepath.Join(dir, f), "")
			}
			img, err := Open(dir)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v, want an error with %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if img.Kernel != filepath.Join(dir, "vmlinux-1") {
				t.Errorf("the kernel is %s", img.Kernel)
			}
		})
	}
}

func TestOpenTellsThatThereIsNone(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
