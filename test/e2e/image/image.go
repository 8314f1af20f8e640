// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The names under which the images are imported.
const (
	Demo  = "berth.local/demo:latest"
	Pause = "berth.local/pause:latest"
)

// nameAnnotation is where containerd's importer finds an image's full name.
const nameAnnotation = "io.containerd.image.name"

// path is the PATH of both images.
const path = "PATH=/bin"

// Write writes one OCI image layout, as a tar archive, with both images. The
// archive depends on the busybox alone: the same one gives the same digests.
func Write(w io.Writer, busybox Busybox) error {
	layer, err := busybox.layer()
	if err != nil {
		return err
	}
	l := layout{blobs: map[digest.Digest][]byte{}}
	images := []struct {
		name   string
		config ocispec.ImageConfig
	}{
		{Demo, ocispec.ImageConfig{Env: []string{path}, Cmd: []string{"sh"}}},
		// Longer than any test. As PID 1 it has no handlers, so only SIGKILL ends it,
		// and SIGKILL is what a CRI runtime sends to a sandbox.
		{Pause, ocispec.ImageConfig{Env: []string{path}, Entrypoint: []string{"/bin/sleep", "2147483647"}}},
	}
	for _, image := range images {
		if err := l.add(image.name, image.config, layer); err != nil {
			return fmt.Errorf("image %s: %w", image.name, err)
		}
	}
	return l.write(w)
}

// layout collects what goes into the archive.
type layout struct {
	blobs     map[digest.Digest][]byte
	order     []digest.Digest
	manifests []ocispec.Descriptor
}

// add adds an image of one layer under a name.
func (l *layout) add(name string, config ocispec.ImageConfig, layer []byte) error {
	layerBlob := l.blob(ocispec.MediaTypeImageLayer, layer)
	configBlob, err := l.jsonBlob(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layerBlob.Digest}},
	})
	if err != nil {
		return err
	}
	manifest, err := l.jsonBlob(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    configBlob,
		Layers:    []ocispec.Descriptor{layerBlob},
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{nameAnnotation: name}
	manifest.Platform = &ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}
	l.manifests = append(l.manifests, manifest)
	return nil
}

// blob adds content and describes it.
func (l *layout) blob(mediaType string, content []byte) ocispec.Descriptor {
	d := digest.NewDigestFromBytes(digest.SHA256, sum(content))
	if _, ok := l.blobs[d]; !ok {
		l.blobs[d] = content
		l.order = append(l.order, d)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

func (l *layout) jsonBlob(mediaType string, value any) (ocispec.Descriptor, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	return l.blob(mediaType, content), nil
}

// write writes the layout's files as an archive.
func (l *layout) write(w io.Writer) error {
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: l.manifests,
	})
	if err != nil {
		return fmt.Errorf("encode index: %w", err)
	}
	marker, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return fmt.Errorf("encode layout marker: %w", err)
	}
	archive := newArchive(w)
	archive.file(ocispec.ImageLayoutFile, 0o644, marker)
	archive.file(ocispec.ImageIndexFile, 0o644, index)
	for _, d := range l.order {
		archive.file("blobs/sha256/"+d.Encoded(), 0o644, l.blobs[d])
	}
	return archive.close()
}

func sum(content []byte) []byte {
	s := sha256.Sum256(content)
	return s[:]
}

// archive writes tar entries and keeps the first error. Times are the epoch, so
// that equal content gives equal archives.
type archive struct {
	tar *tar.Writer
	err error
}

func newArchive(w io.Writer) *archive { return &archive{tar: tar.NewWriter(w)} }

func (a *archive) header(h tar.Header, content []byte) {
	h.ModTime = time.Unix(0, 0)
	h.Size = int64(len(content))
	if a.err == nil {
		a.err = a.tar.WriteHeader(&h)
	}
	if a.err == nil {
		_, a.err = io.Copy(a.tar, bytes.NewReader(content))
	}
}

func (a *archive) file(name string, mode int64, content []byte) {
	a.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content)
}

func (a *archive) dir(name string, mode int64) {
	a.header(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, nil)
}

func (a *archive) symlink(name, target string) {
	a.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

func (a *archive) close() error {
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err != nil {
		return fmt.Errorf("write archive: %w", a.err)
	}
	return nil
}
