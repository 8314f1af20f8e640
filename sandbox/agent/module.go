// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads what the image's list names, in its order
// (sandbox/vm/image/build puts dependencies first).
func loadModules(dir string, log io.Writer) error {
	list, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		return fmt.Errorf("read the list of modules: %w", err)
	}
	for _, name := range strings.Fields(string(list)) {
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	// They are in the kernel now, and an initramfs is memory.
	if err := os.RemoveAll(dir); err != nil {
		_, _ = fmt.Fprintln(log, "berth-agent: free the modules' files:", err)
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
