// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// TestWrite reads the archive back and follows every descriptor from the index.
func TestWrite(t *testing.T) {
	busybox := Busybox{binary: []byte("not a program"), applets: []string{"busybox", "sh"}}
	var out, again bytes.Buffer
	if err := Write(&out, busybox); err != nil {
		t.Fatal(err)
	}
	if err := Write(&again, busybox); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("two archives of one busybox differ")
	}
	files := read(t, out.Bytes())

	var index ocispec.Index
	decode(t, files["index.json"], &index)
	names := map[string]bool{}
	for _, m := range index.Manifests {
		names[m.Annotations[nameAnnotation]] = true
		var manifest ocispec.Manifest
		decode(t, blob(t, files, m), &manifest)
		var config ocispec.Image
		decode(t, blob(t, files, manifest.Config), &config)
		layer := blob(t, files, manifest.Layers[0])
		if got := config.RootFS.DiffIDs[0]; got != digest.FromBytes(layer) {
			t.Errorf("diff id %s is not the digest of the layer", got)
		}
		root := read(t, layer)
		if string(root["bin/busybox"]) != "not a program" {
			t.Errorf("layer holds %q as busybox", root["bin/busybox"])
		}
		if _, ok := root["bin/sh"]; !ok {
			t.Error("layer has no bin/sh")
		}
	}
	if !names[Demo] || !names[Pause] || len(names) != 2 {
		t.Errorf("index names %v", names)
	}
}

// TestWriteTree wants the files of a directory in the image, and refuses others.
func TestWriteTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/program"), []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b/program", filepath.Join(dir, "a/link")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteTree(&out, "name", dir, ocispec.ImageConfig{}); err != nil {
		t.Fatal(err)
	}
	files := read(t, out.Bytes())
	var index ocispec.Index
	decode(t, files["index.json"], &index)
	var manifest ocispec.Manifest
	decode(t, blob(t, files, index.Manifests[0]), &manifest)
	root := read(t, blob(t, files, manifest.Layers[0]))
	if _, ok := root["a/link"]; !ok || string(root["a/b/program"]) != "text" || len(root) != 4 {
		t.Errorf("the layer has %q", root)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteTree(&out, "name", dir, ocispec.ImageConfig{}); err == nil || !strings.Contains(err.Error(), "fifo") {
		t.Errorf("a FIFO in the directory: %v", err)
	}
}

func TestFindBusyboxWantsStatic(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := FindBusybox(); err == nil || !strings.Contains(err.Error(), "busybox-static") {
		t.Errorf("without busybox: %v; want an error that names the package", err)
	}
}

func read(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func blob(t *testing.T, files map[string][]byte, d ocispec.Descriptor) []byte {
	t.Helper()
	content, ok := files["blobs/sha256/"+d.Digest.Encoded()]
	if !ok || digest.FromBytes(content) != d.Digest || int64(len(content)) != d.Size {
		t.Fatalf("blob of %+v is missing or wrong", d)
	}
	return content
}

func decode(t *testing.T, data []byte, value any) {
	t.Helper()
	if err := json.Unmarshal(data, value); err != nil {
		t.Fatal(err)
	}
}
