// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// TemplateKey is the same for machines that can be clones of one template, and
// for no others: it has the programs, the CPU, and all that a template is made of.
func TemplateKey(ctx context.Context, c Config, sharing bool) (string, error) {
	accel, err := Choose(ctx, c.Accel, "")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, "berth template 1", accel, c.MemoryMiB, c.CPUs, sharing)
	for _, path := range []string{c.QEMU, c.Image.Kernel, c.Image.Initramfs} {
		// What was replaced has another inode, or another time.
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return "", fmt.Errorf("look at %s: %w", path, err)
		}
		_, _ = fmt.Fprintln(hash, path, st.Dev, st.Ino, st.Size, st.Mtim.Nano())
	}
	// The arguments of this program's version, but for what is each machine's.
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer func() { _ = null.Close() }()
	same := Config{ID: "template", MemoryMiB: c.MemoryMiB, CPUs: c.CPUs}
	same.origin = origin{memory: null, state: null, sharing: sharing}
	args, err := same.arguments(accel, ends{}, new(descriptors))
	if err != nil {
		return "", err
	}
	_, _ = fmt.Fprintln(hash, append(args, baseCmdline, same.portsCmdline()))
	if err := writeCPU(hash); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil))[:32], nil
}

// writeCPU writes what a guest could find out about the CPU (proc(5), cpuinfo):
// a host can lose features while it runs, with new microcode.
func writeCPU(w io.Writer) error {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() && lines.Text() != "" { // of the first CPU
		switch name, _, _ := strings.Cut(lines.Text(), "\t"); name {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "bugs":
			_, _ = fmt.Fprintln(w, lines.Text())
		}
	}
	return lines.Err()
}
