// SPDX-License-Identifier: Apache-2.0

// Command sim has pods come and go on eight simulated H200, and compares how
// package mig places their MIG instances with first fit. It writes its table
// into a document, between two marks, and its plot beside it; with -check it
// only says whether they are what it would write.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	check := flag.Bool("check", false, "write nothing; fail if the document is not current")
	doc := flag.String("doc", "docs/mig.md", "the document; the plot is mig.svg beside it")
	flag.Parse()
	if err := run(*doc, *check); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

const (
	begin = "<!-- simulation: begin -->\n"
	end   = "<!-- simulation: end -->\n"
)

func run(doc string, check bool) error {
	old, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: %q and %q", doc, begin, end)
	}
	rows := simulate()
	fmt.Print(table(rows))
	for path, text := range map[string]string{
		doc: head + begin + table(rows) + end + tail,
		filepath.Join(filepath.Dir(doc), "mig.svg"): plot(rows),
	} {
		if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, []byte(text)) {
			continue
		}
		if check {
			return fmt.Errorf("%s is not what the simulation gives: run make bench-mig", path)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
