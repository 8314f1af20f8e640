// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"berth/test/shelter"
)

func TestMain(m *testing.M) { os.Exit(shelter.Main(m.Run)) }
