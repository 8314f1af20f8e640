// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"os"
	"testing"

	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }
