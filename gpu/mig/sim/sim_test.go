// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestDocument wants the table and the plot that are shipped to be those that
// the simulation gives.
func TestDocument(t *testing.T) {
	if err := run("../../../docs/mig.md", true); err != nil {
		t.Error(err)
	}
}

func TestPlotIsXML(t *testing.T) {
	d := xml.NewDecoder(strings.NewReader(plot(simulate())))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
