// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

// vm runs a container in a virtual machine, whose kernel is another.
func (d *demo) vm(ctx context.Context) error {
	d.title("A container in a virtual machine of its own: ctr run --runtime %s", node.VMRuntime)
	checkout, err := node.Checkout()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(checkout, ".tools", "guest", "image.json")); errors.Is(err, os.ErrNotExist) {
		d.printf("  left out: there is no guest image; with QEMU and virtiofsd installed scripts/demo builds one\n")
		return nil
	}
	var host unix.Utsname
	if err := unix.Uname(&host); err != nil {
		return err
	}
	outside := unix.ByteSliceToString(host.Release[:])
	d.printf("  uname -r outside: %s\n", outside)
	inside, err := d.show(ctx, 0, "ctr", "run", "--rm", "--runtime", node.VMRuntime, "--fifo-dir", d.node.FIFODir(),
		image.Demo, "machine", "uname", "-r")
	if err != nil {
		return err
	}
	if strings.TrimSpace(inside) == outside {
		return errors.New("the kernel inside is the one outside")
	}
	return nil
}
