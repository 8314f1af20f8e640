// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

type options struct {
	shim, control, runtime string
	only                   string
	stress                 time.Duration
	long, verbose          bool
	command                bool
}

// check makes the paths absolute and wants each to exist.
func (o *options) check() error {
	if o.shim == "" || o.runtime == "" {
		return errors.New("-shim and -runtime are needed")
	}
	for _, path := range []*string{&o.shim, &o.control, &o.runtime} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		if _, err := os.Stat(abs); err != nil {
			return fmt.Errorf("%w: build it first", err)
		}
		*path = abs
	}
	return nil
}
