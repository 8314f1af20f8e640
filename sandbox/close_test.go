// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"testing"

	"berth/test/fakeoci"
)

// A pod that is closed stops watching what runs, says so, and has no watcher
// left; the containers are for a cleanup.
func TestCloseWithContainers(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.exec(c, "e", "sleep")
	r.answers("Close", func() {
		if err := r.pod.Close(); err == nil {
			t.Error("Close does not tell of the container that is left")
		}
	})
	if d, err := r.cleanup(c); err != nil || d.Exit.Status != 137 {
		t.Errorf("cleanup: %+v, %v", d, err)
	}
	<-c.init.os.Done()
	<-c.execs["e"].os.Done()
	r.pod.work.Wait()
	r.expect(c, "create", "start", "exec-added:e", "exec-started:e")
	c.closeStreams(r.ctx())
	c.closeCgroup()
	r.pod.remove("a")
}
