// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"testing"

	"berth/test/leak"
	"berth/test/shelter"
)

func TestMain(m *testing.M) {
	// What is mounted goes with a mount namespace, however the tests end.
	os.Exit(shelter.Main(func() int { return leak.Main(m) }))
}
