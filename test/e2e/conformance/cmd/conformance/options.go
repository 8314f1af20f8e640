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
	vm, guest              string // the vm shim and what its guests boot from; none if empty
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
	if (o.vm == "") != (o.guest == "") {
		return errors.New("-vm needs -guest, and the other way round")
	}
	for _, path := range []*string{&o.shim, &o.control, &o.runtime, &o.vm, &o.guest} {
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
