// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// view is the file system that a program of the driver's sees when it serves the MPS of one pod:
// the driver's root, in which /tmp and /dev/shm are the pod's. The control daemon, and the servers
// that it starts, have no other say in where the shared memory of their clients is.
type view struct {
	driverRoot string
	dev        string // the directory of the device nodes
	dir        string // what is /tmp, and in its "shm" what is /dev/shm
	join       paths  // files in which a process that joins a cgroup writes "0"
	oom        string // for /proc/self/oom_score_adj; empty leaves it
}

type paths []string

func (p *paths) String() string     { return fmt.Sprint(*p) }
func (p *paths) Set(s string) error { *p = append(*p, s); return nil }

// mps becomes the program that its arguments name, in a session of its own, and in its view. It
// has the environment of berth-gpu, which is the caller's making.
func mps(args []string) error {
	var v view
	flags := flag.NewFlagSet("mps", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&v.driverRoot, "driver-root", "/", "")
	flags.StringVar(&v.dev, "dev", "/dev", "")
	flags.StringVar(&v.dir, "dir", "", "")
	flags.Var(&v.join, "join", "")
	flags.StringVar(&v.oom, "oom-score-adj", "", "")
	if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
		return fmt.Errorf("%w: mps: %v %q", errUsage, err, args)
	}
	for _, path := range append([]string{v.driverRoot, v.dev, v.dir, flags.Arg(0)}, v.join...) {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%w: mps: %q is no absolute path", errUsage, path)
		}
	}
	runtime.LockOSThread() // never unlocked: the view is this thread's, which becomes the program
	// A leader of a process group cannot begin a session, nor need it: it has left the shim's.
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM {
		return fmt.Errorf("begin a session: %w", err)
	}
	for _, procs := range v.join {
		if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
			return fmt.Errorf("join the pod's cgroup: %w", err)
		}
	}
	if v.oom != "" {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(v.oom), 0); err != nil {
			return fmt.Errorf("set the OOM score: %w", err)
		}
	}
	if err := v.enter(); err != nil {
		return err
	}
	return fmt.Errorf("run %s below %s: %w", flags.Arg(0), v.driverRoot, syscall.Exec(flags.Arg(0), flags.Args(), os.Environ()))
}

// mounted is a mount that waits for its place.
type mounted struct {
	at string // in the driver's root
	fd int
}

// enter makes the view. All sources are opened before the root is changed, and all places resolved
// after it: a driver container's symlinks mean its own files.
func (v view) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mounts: %w", err)
	}
	// A slave: what the host unmounts must not live on in here.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("part from the host's mounts: %w", err)
	}
	var mounts []mounted
	for _, m := range v.mounts() {
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_NO_AUTOMOUNT)
		if m.whole {
			flags |= unix.AT_RECURSIVE
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.from, flags)
		if err != nil {
			return fmt.Errorf("open %s to mount it: %w", m.from, err)
		}
		mounts = append(mounts, mounted{m.at, fd})
	}
	if err := unix.Chroot(v.driverRoot); err != nil {
		return fmt.Errorf("change the root to %s: %w", v.driverRoot, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := unix.MoveMount(m.fd, "", unix.AT_FDCWD, m.at, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
			return fmt.Errorf("mount on %s below %s: %w", m.at, v.driverRoot, err)
		}
	}
	return nil
}

type source struct {
	from, at string
	whole    bool // with what is mounted in it
}

// mounts are in the order in which they cover each other. A driver container's root has the
// kernel's file systems perhaps of another PID namespace, and its devices perhaps not at all.
func (v view) mounts() []source {
	var list []source
	if v.driverRoot != "/" {
		list = append(list, source{"/proc", "/proc", true}, source{"/sys", "/sys", true})
	}
	if v.dev != filepath.Join(v.driverRoot, "dev") {
		list = append(list, source{v.dev, "/dev", true})
	}
	return append(list, source{filepath.Join(v.dir, "shm"), "/dev/shm", false}, source{v.dir, "/tmp", false})
}
