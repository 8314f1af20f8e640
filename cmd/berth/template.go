// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"berth/configs"
	"berth/sandbox/template"
)

// dropTimeout is for a keeper that is just about to put a template on record.
const dropTimeout = time.Minute

// listTemplates shows what a keeper has, if there is one.
func listTemplates(ctx context.Context, stdout io.Writer, wait bool) error {
	dir, err := templateDir()
	if err != nil {
		return err
	}
	all, keeper, err := template.List(ctx, dir, wait)
	if errors.Is(err, template.ErrNoKeeper) {
		_, err := fmt.Fprintln(stdout, "No templates are kept: the first pod after a while has one made, if vm.toml says template = \"copy\" or \"cow\".")
		return err
	}
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b template.Template) int {
		return cmp.Or(cmp.Compare(a.MemoryMiB, b.MemoryMiB), cmp.Compare(a.CPUs, b.CPUs))
	})
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MEMORY\tCPUS\tMODE\tSTATE\tHELD\tCLONES\tKEY")
	for _, t := range all {
		mode := configs.CopiedTemplate
		if t.Sharing {
			mode = configs.SharedTemplate
		}
		_, _ = fmt.Fprintf(w, "%d MiB\t%d\t%s\t%s\t%d MiB\t%d\t%s\n", t.MemoryMiB, t.CPUs, mode, t.State, t.Held>>20, t.Given, t.Key)
		if t.Error != "" {
			_, _ = fmt.Fprintf(w, "  %s\n", t.Error)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "kept by process", keeper)
	return err
}

// dropTemplates ends the keeper, if there is one.
func dropTemplates(ctx context.Context) error {
	dir, err := templateDir()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	if err := template.End(ctx, dir); err != nil && !errors.Is(err, template.ErrNoKeeper) {
		return err
	}
	return nil
}

func templateDir() (string, error) {
	conf, err := configs.LoadVM(configs.VMPath(os.Getenv))
	return template.Dir(conf.RunDir), err
}
