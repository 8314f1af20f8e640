// SPDX-License-Identifier: Apache-2.0

// Command smi is the nvidia-smi of a fake driver: it tells what a container sees of the
// driver. Built without cgo it runs where there is neither shell nor libc.
//
// It prints a line for each thing it finds:
//
//	control: /dev/nvidiactl 195:255 ENXIO allowed
//	GPU: /dev/nvidia3 195:3 ENXIO allowed
//	device: /dev/nvidia-uvm 511:0 EPERM denied
//	library: /usr/lib/x86_64-linux-gnu/libcuda.so.1 -> libcuda.so.570.124.06
//	env: NVIDIA_VISIBLE_DEVICES=void
//
// After a node come its number and what open(2) says. No driver stands behind the number:
// ENXIO means that the device cgroup lets the container through, EPERM that it does not. A
// node that cannot be there twice is looked for by name: "control: /dev/nvidiactl ENOENT
// missing".
//
// With --probe C:M... it makes a node of that number, opens it and prints "probe: C:M ENXIO
// allowed": a container that makes nodes itself gets no further.
//
// With --hold it has the nodes of all GPUs and MIG devices open, as a program that computes has,
// until it is killed. Without a driver they can be opened with O_PATH alone.
//
// The exit code is 9, "driver not loaded" as of the real program, unless the control node and
// at least one GPU are allowed, or every number that was probed.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const driverNotLoaded = 9

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--probe" {
		if !probe(os.Args[2:]) {
			os.Exit(driverNotLoaded)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "--hold" {
		if !hold() {
			os.Exit(driverNotLoaded)
		}
		return
	}
	control := node("control", "/dev/nvidiactl")
	gpus := 0
	for _, pattern := range []string{"/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/nvidia-caps-imex-channels/*", "/dev/dri/*"} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		for _, path := range found {
			if i, err := os.Stat(path); err != nil || i.Mode()&fs.ModeCharDevice == 0 || path == "/dev/nvidiactl" {
				continue
			}
			kind := "device"
			if strings.Trim(filepath.Base(path), "0123456789") == "nvidia" {
				kind = "GPU"
			}
			if node(kind, path) && kind == "GPU" {
				gpus++
			}
		}
	}
	libraries()
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "NVIDIA_") || strings.HasPrefix(e, "CUDA_") || strings.HasPrefix(e, "LD_LIBRARY_PATH=") {
			fmt.Println("env:", e)
		}
	}
	if !control || gpus == 0 {
		fmt.Println("no devices were found")
		os.Exit(driverNotLoaded)
	}
}

// node prints a node's line and tells whether it may be opened.
func node(kind, path string) bool {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		fmt.Printf("%s: %s %s\n", kind, path, verdict(err))
		return false
	}
	err := open(path)
	fmt.Printf("%s: %s %d:%d %s\n", kind, path, unix.Major(st.Rdev), unix.Minor(st.Rdev), verdict(err))
	return err == nil || errors.Is(err, unix.ENXIO)
}

// hold opens the nodes, and waits for the end.
func hold() bool {
	held := 0
	for _, pattern := range []string{"/dev/nvidia[0-9]*", "/dev/nvidia-caps/*"} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if _, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
				fmt.Println("hold:", path, verdict(err))
				return false
			}
			held++
		}
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM)
	fmt.Println("hold:", held)
	<-end
	return held > 0
}

func open(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// verdict says an error's name and what it means for a device.
func verdict(err error) string {
	var number syscall.Errno
	switch {
	case err == nil:
		return "opened"
	case !errors.As(err, &number):
		return err.Error()
	}
	name := unix.ErrnoName(number)
	switch number {
	case unix.ENXIO, unix.ENODEV:
		return name + " allowed"
	case unix.EPERM, unix.EACCES:
		return name + " denied"
	case unix.ENOENT:
		return name + " missing"
	}
	return name
}

// libraries prints the driver's libraries in the places where loaders look.
func libraries() {
	for _, dir := range []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/nvidia/lib64", "/usr/lib64/nvidia",
		"/lib/x86_64-linux-gnu", "/usr/lib/i386-linux-gnu"} {
		if resolved, err := filepath.EvalSymlinks(dir); err != nil || resolved != dir {
			continue // a second name of another one
		}
		for _, pattern := range []string{"libcuda*.so*", "libnv*.so*", "lib*_nvidia.so*", "vdpau/libvdpau_nvidia.so*", "gbm/*", "nvidia/xorg/*"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, path := range found {
				fmt.Println("library:", path+arrow(path))
			}
		}
	}
}

func arrow(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		return " -> " + target + " (dangling)"
	}
	return " -> " + target
}

func probe(numbers []string) bool {
	all := len(numbers) > 0
	for _, n := range numbers {
		var major, minor uint32
		err := fmt.Errorf("%q is not MAJOR:MINOR", n)
		if c, _ := fmt.Sscanf(n, "%d:%d", &major, &minor); c == 2 {
			path := fmt.Sprintf("/dev/probe-%d-%d", major, minor)
			if err = unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err == nil {
				err = open(path)
				os.Remove(path)
			}
		}
		fmt.Printf("probe: %s %s\n", n, verdict(err))
		all = all && (err == nil || errors.Is(err, unix.ENXIO))
	}
	return all
}
