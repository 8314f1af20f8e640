// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
