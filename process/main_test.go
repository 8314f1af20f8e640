// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"testing"

	"berth/test/leak"
)

func TestMain(m *testing.M) {
	runProgram()
	os.Exit(leak.Main(m))
}
