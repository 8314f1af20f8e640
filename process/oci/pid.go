// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// removeStale makes sure that a pid file which is there after a call was written by it.
func removeStale(pidFile string) error {
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove earlier pid file: %w", err)
	}
	return nil
}

// readPid reads a pid file.
func readPid(pidFile string) (int, error) {
	f, err := os.Open(pidFile)
	if err != nil {
		return 0, fmt.Errorf("read pid file of the OCI runtime: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return 0, fmt.Errorf("read pid file of the OCI runtime: %w", err)
	}
	return parsePid(data)
}

func parsePid(data []byte) (int, error) {
	pid, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 32)
	if err != nil || pid <= 1 { // 1 is never the runtime's to give away
		return 0, fmt.Errorf("pid file of the OCI runtime holds %q and not the number of a process", data)
	}
	return int(pid), nil
}
