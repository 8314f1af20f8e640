// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// An emptyDir of the medium Memory is a tmpfs that kubelet mounts at
// .../volumes/kubernetes.io~empty-dir/NAME, and has nothing in it but what containers
// of the pod put there. A subPath of one is bound below .../volume-subpaths
// (Kubernetes, pkg/volume/emptydir, pkg/volume/util/subpath).
const (
	emptyDirPlugin = "kubernetes.io~empty-dir"
	subPathDir     = "volume-subpaths"
)

// shmName is the pod's /dev/shm among what its containers have in common in the
// guest's memory, as it is among what the CRI has of a pod on the host (containerd,
// CRI-O). What else is mounted at /dev/shm is a volume like any other. No emptyDir has the name: those have a dot in it.
const shmName = "shm"

// defaultShm is what the CRI gives a pod, in bytes.
const defaultShm = 64 << 20

// inMemory is what a mount becomes whose source is the pod's in memory, on the host as in
// the guest: a file system of the guest's. It is nil for any other.
func (p *plan) inMemory(m specs.Mount) (*agentapi.Tmpfs, error) {
	t, err := p.tmpfsFor(m)
	if t != nil && len(m.UIDMappings) > 0 && !mapIDs(t, m) {
		return nil, err // the host's kernel can map them all the same
	}
	return t, err
}

func (p *plan) tmpfsFor(m specs.Mount) (*agentapi.Tmpfs, error) {
	t, err := p.emptyDir(m)
	if t != nil || err != nil || filepath.Clean(m.Destination) != "/dev/shm" || filepath.Base(m.Source) != shmName {
		return t, err
	}
	t = &agentapi.Tmpfs{Name: shmName, Size: defaultShm, Mode: 0o1777, Options: []string{"nosuid", "nodev", "noexec"}}
	var fs unix.Statfs_t
	switch err := unix.Statfs(m.Source, &fs); {
	case err != nil: // it is for the host to have, and not used
	case fs.Type != unix.TMPFS_MAGIC:
		return nil, nil // a directory that somebody wants there
	case fs.Blocks > 0:
		t.Size = fs.Blocks * uint64(fs.Bsize)
	}
	return t, nil
}

// emptyDir is for such a volume, or a directory in one.
func (p *plan) emptyDir(m specs.Mount) (*agentapi.Tmpfs, error) {
	if !strings.Contains(m.Source, "/"+emptyDirPlugin+"/") && !strings.Contains(m.Source, "/"+subPathDir+"/") {
		return nil, nil
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	resolved, err := filepath.EvalSymlinks(m.Source)
	if err != nil {
		return nil, nil // whoever binds it says why not
	}
	if err := unix.Lstat(resolved, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, nil
	}
	if err := unix.Statfs(resolved, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return nil, nil
	}
	volume, below, err := volumeOf(st.Dev, resolved)
	if err != nil || volume == "" {
		return nil, err
	}
	if err := unix.Lstat(volume, &st); err != nil {
		return nil, fmt.Errorf("look at the volume %s: %w", volume, err)
	}
	t := &agentapi.Tmpfs{
		Name: fmt.Sprintf("%s.%d", filepath.Base(volume), st.Dev), Size: fs.Blocks * uint64(fs.Bsize),
		Mode: st.Mode & 0o7777, Uid: st.Uid, Gid: st.Gid, Options: []string{"nodev"},
	}
	if t.Directories, err = directoriesTo(volume, below); err != nil {
		return nil, fmt.Errorf("look at the volume %s: %w", volume, err)
	}
	return t, nil
}

// volumeOf finds where kubelet has mounted the emptyDir on a device, and which part of it a
// path leads to; "" if it is none.
func volumeOf(device uint64, path string) (volume, below string, err error) {
	nearest := ""
	mounts, err := hostMounts()
	if err != nil {
		return "", "", fmt.Errorf("look where %s is mounted: %w", path, err)
	}
	for _, m := range mounts {
		if m.device != device {
			continue
		}
		if m.root == "/" && filepath.Base(filepath.Dir(m.point)) == emptyDirPlugin {
			volume = m.point
		}
		rest, ok := strings.CutPrefix(path+"/", strings.TrimSuffix(m.point, "/")+"/")
		if ok && len(m.point) >= len(nearest) {
			nearest, below = m.point, filepath.Join(m.root, rest)
		}
	}
	return volume, below, nil
}

// directoriesTo are those on the way from a volume to one in it, as kubelet has made them.
func directoriesTo(volume, below string) (all []*agentapi.Directory, err error) {
	name := ""
	for part := range strings.SplitSeq(strings.Trim(below, "/"), "/") {
		if part == "" {
			continue
		}
		name = filepath.Join(name, part)
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(volume, name), &st); err != nil {
			return nil, &os.PathError{Op: "lstat", Path: filepath.Join(volume, name), Err: err}
		}
		all = append(all, &agentapi.Directory{Name: name, Mode: st.Mode & 0o7777, Uid: st.Uid, Gid: st.Gid})
	}
	return all, nil
}

// addTmpfs has the container get a file system of the guest's memory, or a part of it.
func (p *plan) addTmpfs(m specs.Mount, t *agentapi.Tmpfs) specs.Mount {
	m.Source = filepath.Join(agentapi.TmpfsDir, t.Name)
	if len(t.Directories) > 0 {
		t.Target = filepath.Join(p.disks, fmt.Sprintf("memory%d", len(p.tmpfs)))
		m.Source = t.Target
	}
	p.tmpfs = append(p.tmpfs, t)
	return m
}
