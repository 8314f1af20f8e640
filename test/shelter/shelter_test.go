// SPDX-License-Identifier: Apache-2.0

package shelter

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(Main(m.Run)) }

func TestShelter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root")
	}
	for _, path := range []string{"/etc/berth-test", "/usr/berth-test"} {
		err := os.WriteFile(path, nil, 0o600)
		if err == nil {
			_ = os.Remove(path)
		}
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
