// SPDX-License-Identifier: Apache-2.0

package template

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/sandbox/vm"
)

// A clone that has its template's memory reads and writes what is in its share,
// also if its CPUs are stopped meanwhile, for which QEMU takes the device's queues
// back; and another sees nothing of it.
func TestShareOfSharedMemory(t *testing.T) {
	r := newRig(t)
	tpl, err := Make(r.ctx, r.Config, true)
	r.must(err)
	defer tpl.Close()
	before := nonHoles(t, tpl.Memory)
	r.Share = r.rootfs()
	data := make([]byte, 9<<20+5)
	_, _ = rand.Read(data)
	r.must(os.WriteFile(filepath.Join(r.Share, "from-host"), data, 0o644))
	m, err := Clone(r.ctx, r.Config, tpl, "clone")
	r.must(err)
	stops, stopped := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for n := 0; err == nil; n++ {
			select {
			case <-stops:
				stopped <- nil
				return
			default:
			}
			if err = m.Pause(r.ctx); err == nil {
				err = m.Resume(r.ctx)
			}
		}
		stopped <- err
	}()
	script := "b=/busybox; $b cp /from-host /one & $b cp /from-host /two & wait; $b rm /from-host; $b cat /one | $b wc -c"
	if got := strings.TrimSpace(r.run(m, script)); got != "9437189" {
		t.Errorf("a container says %q", got)
	}
	close(stops)
	r.must(<-stopped)
	r.must(m.Close(context.Background()))
	for _, name := range []string{"one", "two"} {
		if got, err := os.ReadFile(filepath.Join(r.Share, name)); !bytes.Equal(got, data) {
			t.Errorf("%s is not what was copied (%v)", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(r.Share, "from-host")); !os.IsNotExist(err) {
		t.Errorf("what was removed: %v", err)
	}
	if after := nonHoles(t, tpl.Memory); after != before {
		t.Errorf("the template has %d bytes, it had %d", after, before)
	}
}

// nonHoles is how much there is of a file.
func nonHoles(t *testing.T, f *os.File) int64 {
	t.Helper()
	return (&vm.Template{Memory: f}).Held()
}
