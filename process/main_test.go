// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	runProgram()
	os.Exit(m.Run())
}
