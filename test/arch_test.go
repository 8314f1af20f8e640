// SPDX-License-Identifier: Apache-2.0

// Package test holds what is true of the whole module: which package may
// import which, and which modules a shim may carry.
package test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed lists, for each package, the packages of this module that it may
// import. Imports point one way; a package that is not here may not exist.
var allowed = map[string][]string{
