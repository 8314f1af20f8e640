// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// configMap is a volume as kubelet writes one.
type configMap string

// write does what kubelet does to a volume (Kubernetes,
// pkg/volume/util/atomic_writer.go).
func (m configMap) write(t *testing.T, data string, files map[string]string) {
	t.Helper()
	dir := string(m)
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	err := os.MkdirAll(filepath.Join(dir, data), 0o755)
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, data, name), []byte(text), 0o644))
	}
	err = errors.Join(err, os.Symlink(data, filepath.Join(dir, "..data_tmp")),
		os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	for name := range files {
		if e := os.Symlink("..data/"+name, filepath.Join(dir, name)); !errors.Is(e, os.ErrExist) {
			err = errors.Join(err, e)
		}
	}
	if old != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, old)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// watcher builds a program that watches a directory.
func watcher(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "watch")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/watch")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the watcher: %v: %s", err, out)
	}
	return program
}

// TestConfigMapWatched changes a ConfigMap under a program that watches it by
// inotify: what is heard is the same in a VM as on the host.
func TestConfigMapWatched(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		volume := configMap(filepath.Join(t.TempDir(), "volumes", "kubernetes.io~configmap", "config"))
		volume.write(t, "..1", map[string]string{"key": "one\n", "other": "same\n"})
		const script = "cat /config/key; ls /config; (echo x > /config/x) 2>/dev/null || echo read-only; exec /watch /config"
		out := newOutput()
		c := create(ctx, t, shared, r, request{
			args: []string{"sh", "-c", script}, io: streamsTo(shared, nil, out, newOutput(), false),
			spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{
				{Type: "bind", Source: string(volume), Destination: "/config", Options: []string{"rbind", "ro"}},
				{Type: "bind", Source: watcher(t), Destination: "/watch", Options: []string{"bind", "ro"}},
			})},
		})
		exit := start(ctx, t, c.task)
		out.await(ctx, t, "one\nkey\nother\nread-only\nwatching\n")
		volume.write(t, "..2", map[string]string{"key": "two\n", "other": "same\n"})
		out.await(ctx, t, "create ..2\ncreate ..data_tmp\nmoved ..data\nkey two\ndelete ..1\n")
		volume.write(t, "..3", map[string]string{"key": "three\n", "other": "same\n"})
		out.await(ctx, t, "create ..3\ncreate ..data_tmp\nmoved ..data\nkey three\ndelete ..2\n")
		kill(ctx, t, c.task, unix.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}
