// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"os"
	"testing"

	"berth/test/leak"
	"berth/test/shelter"
)

func TestMain(m *testing.M) {
	os.Exit(shelter.Main(func() int { return leak.Main(m) }))
}
