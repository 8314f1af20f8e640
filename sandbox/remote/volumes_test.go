// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Which binds are of a volume that kubelet writes, as a whole.
func TestIsWritten(t *testing.T) {
	const pod = "/var/lib/kubelet/pods/1/volumes/"
	for path, want := range map[string]bool{
		pod + "kubernetes.io~configmap/a": true, pod + "kubernetes.io~secret/a": true, pod + "kubernetes.io~projected/kube-api-access-x/": true,
		pod + "kubernetes.io~downward-api/a": true, pod + "kubernetes.io~empty-dir/a": false, pod + "kubernetes.io~configmap": false,
		pod + "kubernetes.io~configmap/a/b": false, "/a/kubernetes.io~configmap/a": false,
	} {
		if got := (bind{source: path, readOnly: true}).isWritten(); got != want {
			t.Errorf("%s: %v", path, got)
		}
		if (bind{source: path}).isWritten() {
			t.Errorf("%s is one though it can be written to", path)
		}
	}
}

// Volumes of several containers, one of them of both, are watched until their
// container goes; one without ..data is not.
func TestVolumesWatched(t *testing.T) {
	dir := t.TempDir()
	volume := func(name string, data string) bind {
		path := filepath.Join(dir, "volumes", "kubernetes.io~secret", name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if data != "" {
			if err := os.Symlink(data, filepath.Join(path, dataLink)); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
		}
		return bind{name: name, source: path, readOnly: true}
	}
	both, odd := volume("both", "..1"), volume("odd", "")
	v, r := newVolumes(), &guest{}
	defer v.close()
	for _, id := range []string{"a", "b"} {
		got := v.add(r, id, []bind{{name: "rootfs", source: dir}, both, odd})
		if len(got) != 1 || got[0].Name != "both" || got[0].Data != "..1" {
			t.Fatalf("%s: %v", id, got)
		}
	}
	if v.watched[0].wd != v.watched[1].wd {
		t.Fatal("one directory has two watches: the test is of no use")
	}
	v.remove("a")
	if n := watches(t, v); n != 1 {
		t.Errorf("%d watches with one container left", n)
	}
	v.remove("b")
	if n := watches(t, v); n != 0 {
		t.Errorf("%d watches are left", n)
	}
	if len(v.watched) != 0 {
		t.Errorf("still watched: %v", v.watched)
	}
}

// watches counts those of the inotify instance, as the kernel does
// (proc_pid_fdinfo(5)).
func watches(t *testing.T, v *volumes) (n int) {
	t.Helper()
	err := control(v.inotify, func(fd int) error {
		info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
		n = strings.Count(string(info), "inotify wd:")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
