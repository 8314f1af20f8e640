// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Busybox is a static busybox of the host.
type Busybox struct {
	binary  []byte
	applets []string
}

// FindBusybox reads the busybox on PATH. It must be static, because nothing else
// is in the image.
func FindBusybox() (Busybox, error) {
	file, err := exec.LookPath("busybox")
	if err != nil {
		return Busybox{}, fmt.Errorf("find busybox: %w; install Debian's busybox-static", err)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		return Busybox{}, fmt.Errorf("read busybox: %w", err)
	}
	if err := static(binary); err != nil {
		return Busybox{}, fmt.Errorf("%s: %w; install Debian's busybox-static", file, err)
	}
	list, err := exec.Command(file, "--list").Output()
	if err != nil {
		return Busybox{}, fmt.Errorf("list the applets of %s: %w", file, err)
	}
	return Busybox{binary: binary, applets: strings.Fields(string(list))}, nil
}

// static returns an error for an ELF program that asks for a loader.
func static(binary []byte) error {
	program, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("read ELF header: %w", err)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return errors.New("is dynamically linked")
		}
	}
	return nil
}

// layer is the root file system of the images.
func (b Busybox) layer() ([]byte, error) {
	var out bytes.Buffer
	root := newArchive(&out)
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "root/", "run/", "sys/", "var/"} {
		root.dir(dir, 0o755)
	}
	root.dir("tmp/", 0o1777)
	root.file("bin/busybox", 0o755, b.binary)
	for _, applet := range b.applets {
		if applet != "busybox" {
			root.symlink("bin/"+applet, "busybox")
		}
	}
	root.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	root.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	if err := root.close(); err != nil {
		return nil, fmt.Errorf("image layer: %w", err)
	}
	return out.Bytes(), nil
}
