// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	wire "berth/gpu/nvml"
)

const soname = "libnvidia-ml.so.1"

// location says where the library is; the zero value leaves it to the loader.
type location struct {
	library, driverRoot string
}

func (at location) check() error {
	if at.library != "" && at.driverRoot != "" {
		return fmt.Errorf("%w: --library and --driver-root exclude each other", errUsage)
	}
	for _, path := range []string{at.library, at.driverRoot} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%w: %q is not an absolute path", errUsage, path)
		}
	}
	return nil
}

// find returns what is given to dlopen(3).
func (at location) find() (string, error) {
	switch {
	case at.library != "":
		if info, err := os.Stat(at.library); err != nil {
			return "", notFound(err.Error())
		} else if !info.Mode().IsRegular() { // dlopen would wait for the writer of a FIFO
			return "", notFound(at.library + " is not a regular file")
		}
		return at.library, nil
	case at.driverRoot != "" && at.driverRoot != "/":
		return findBelow(at.driverRoot)
	}
	return soname, nil
}

// findBelow looks where distributions have the driver's libraries. Links are followed as if root
// were /: Debian's lead to /etc/alternatives.
func findBelow(root string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", notFound("open driver root " + root + ": " + err.Error())
	}
	defer unix.Close(dir)
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	folders := []string{"usr/lib64", "usr/lib/" + triplet, "lib64", "lib/" + triplet, "usr/lib", "lib",
		"usr/lib/" + triplet + "/nvidia/current", "usr/lib64/nvidia", "usr/lib/nvidia"}
	if versioned, err := filepath.Glob(filepath.Join(root, "usr/lib/nvidia-*")); err == nil {
		for _, v := range versioned {
			folders = append(folders, strings.TrimPrefix(v, root))
		}
	}
	for _, folder := range folders {
		if path, ok := regularIn(dir, filepath.Join(folder, soname)); ok {
			return path, nil
		}
	}
	return "", notFound(fmt.Sprintf("no %s in %s, looked in %s", soname, root, strings.Join(folders, ", ")))
}

// regularIn returns the path, free of links, of a regular file below the root.
func regularIn(root int, name string) (string, bool) {
	fd, err := unix.Openat2(root, strings.TrimPrefix(name, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", false
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return path, err == nil
}

func notFound(message string) error {
	return &wire.Error{Code: "ERROR_LIBRARY_NOT_FOUND", Message: message}
}
